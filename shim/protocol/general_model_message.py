"""Messages of Paddle Serving's general service <-> documents. What one holds is counted first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
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

# Numbers that are not packed are a field each.
_MOST_FIELDS: Final = 1 << 23
# Of all but packed floats and contents, which are read where they lie. A packed integer may be a byte, and
# takes eight.
_MOST_REST_BYTES: Final = 4 << 20
# Of one field of packed floats: a writer makes one. More are counted as if they were not packed.
_MOST_PIECES: Final = 16
_ANY_BYTES: Final = (1 << 63) - 1
# Fields of a tensor: those with floats, all with numbers, and its bytes.
_FLOATS: Final[dict[int, tuple[str, np.dtype[Any]]]] = {
    2: ("float_data", np.dtype("<f4")),
    4: ("float64_data", np.dtype("<f8")),
}
_NUMBERS: Final = (*range(1, 9), 11, 12)
_CONTENT: Final = 15


Walked = tuple[str, int, int, int, bytes, list[tuple[int, int, int, int]]]


def _table(cut: tuple[int, ...]) -> WireTable:
    """Of each type: number, how often, bytes of each at most, place of its type, whether it is cut."""
    request = [
        (1, MOST_TENSORS, _ANY_BYTES, 1, False),
        (2, MOST_TENSORS, MOST_NAME_CHARACTERS, -1, False),
        (3, 1, _ANY_BYTES, -1, False),
        (4, 1, _ANY_BYTES, -1, False),
    ]
    tensor = [
        *(
            (number, _MOST_PIECES if number in cut else _MOST_FIELDS, _ANY_BYTES, -1, number in cut)
            for number in _NUMBERS
        ),
        (9, MOST_TENSORS, _ANY_BYTES, -1, False),
        (10, 1, _ANY_BYTES, -1, False),
        *((number, 1, MOST_NAME_CHARACTERS, -1, False) for number in (13, 14)),
        (_CONTENT, 1, _ANY_BYTES, -1, True),
    ]
    return WireTable([request, tensor], _MOST_FIELDS, _MOST_REST_BYTES)


_PACKED: Final = _table((*_FLOATS, _CONTENT))
_UNPACKED: Final = _table((_CONTENT,))


def read_message(body: bytes) -> dict[str, Any]:
    """The fields of a Request; packed floats are arrays over its bytes.

    Raises
    ------
    RequestError
        400: it is none, or holds more than it may.
    """
    walked = _PACKED.walk(body)
    fault, _, number, *_ = walked
    if fault == "times" and number in _FLOATS:
        return _fields(_UNPACKED.walk(body), body)
    fields = _fields(walked, body)
    if any(_lacks_floats(tensor) for tensor in fields["tensor"]):
        return _fields(_UNPACKED.walk(body), body)  # which older clients send
    return fields


def _lacks_floats(tensor: Mapping[str, Any]) -> bool:
    wanted = {1: "float_data", 3: "float64_data"}.get(tensor.get("elem_type", 0))
    return wanted is not None and wanted not in tensor and "tensor_content" not in tensor


def _fields(walked: Walked, body: bytes) -> dict[str, Any]:
    fault, _, _, _, rest, cut = walked
    if fault and fault != "damaged":
        raise bad_request(
            f"the Request has more than {MOST_TENSORS} tensors or names, {MOST_NAME_CHARACTERS} bytes of a "
            f"name, or {_MOST_REST_BYTES} bytes beside packed floats and tensor_content, which are the most"
        )
    try:
        if not fault:
            fields = message_fields(_Request.FromString(rest))
            _add_cut(fields["tensor"], memoryview(body), cut)
            return fields
    except (DecodeError, ValueError):  # NumPy's, of bytes that are no whole numbers
        pass
    raise bad_request(f"the body is not a message {_Request.DESCRIPTOR.full_name}")


def _add_cut(
    tensors: list[dict[str, Any]], body: memoryview, cut: Sequence[tuple[int, int, int, int]]
) -> None:
    for owner, number, first, size in cut:
        data = body[first : first + size]
        if number == _CONTENT:
            tensors[owner]["tensor_content"] = data
            continue
        name, dtype = _FLOATS[number]
        numbers: npt.NDArray[Any] = np.frombuffer(data, dtype)
        before = tensors[owner].get(name)
        tensors[owner][name] = numbers if before is None else np.concatenate([before, numbers])


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
