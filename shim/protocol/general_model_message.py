"""Messages of Paddle Serving's general service <-> documents. What one holds is counted first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError

from paddleinfer._ext import WireTable
from paddleinfer.serving.formats.general_model import message_fields
from paddleinfer.serving.formats.messages import general_model
from paddleinfer.serving.formats.tensors import fill_tensor

from .checks import MOST_NAME_CHARACTERS, MOST_TENSORS
from .errors import bad_request

__all__ = ["read_message", "write_message"]

_Request: Final = general_model("Request")
_Response: Final = general_model("Response")

# Numbers that are not packed are a field each, of two bytes at least, and take eight as an object.
_MOST_FIELDS: Final = 1 << 24
_ANY_BYTES: Final = (1 << 63) - 1
_NUMBERS: Final = (*range(1, 9), 11, 12)
"""Fields of a tensor."""

# Of each type: number, how often, bytes of each at most, place of its type, whether it is cut.
_TABLE: Final = WireTable(
    [
        [
            (1, MOST_TENSORS, _ANY_BYTES, 1, False),
            (2, MOST_TENSORS, MOST_NAME_CHARACTERS, -1, False),
            (3, 1, _ANY_BYTES, -1, False),
            (4, 1, _ANY_BYTES, -1, False),
        ],
        [
            *((number, _MOST_FIELDS, _ANY_BYTES, -1, False) for number in _NUMBERS),
            (9, MOST_TENSORS, _ANY_BYTES, -1, False),
            (10, 1, _ANY_BYTES, -1, False),
            *((number, 1, MOST_NAME_CHARACTERS, -1, False) for number in (13, 14)),
            (15, 1, _ANY_BYTES, -1, False),
        ],
    ],
    _MOST_FIELDS,
    _ANY_BYTES,
)


def read_message(body: bytes) -> dict[str, Any]:
    """The fields of a Request.

    Raises
    ------
    RequestError
        400: it is none, or holds more than it may.
    """
    fault, _, _, _, rest, _ = _TABLE.walk(body)
    if fault and fault != "damaged":
        raise bad_request(
            f"the Request has more than {MOST_TENSORS} tensors or names, {_MOST_FIELDS} fields, "
            f"or {MOST_NAME_CHARACTERS} bytes of a name, which are the most"
        )
    try:
        if not fault:
            return message_fields(_Request.FromString(rest))
    except DecodeError:
        pass
    raise bad_request(f"the body is not a message {_Request.DESCRIPTOR.full_name}")


def write_message(document: Mapping[str, Any]) -> bytes:
    """A Response with these fields; numbers are arrays."""
    message = _Response(err_no=document["err_no"], err_msg=document["err_msg"])
    if "log_id" in document:
        message.log_id = document["log_id"]
    for output in document.get("outputs", ()):
        written = message.outputs.add(engine_name=output["engine_name"])
        for tensor in output["tensor"]:
            fill_tensor(written.tensor.add(), tensor)
    data: bytes = message.SerializeToString()
    return data
