"""Messages of Paddle Serving's pipelines <-> documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from paddleinfer._ext import WireTable
from paddleinfer.serving.formats.messages import pipeline, pipeline_response

from .checks import MOST_NAME_CHARACTERS, MOST_TENSORS
from .errors import bad_request
from .tensor_message import ANY_BYTES, MOST_FIELDS, TensorFields, TensorReader

__all__ = ["read_message", "write_message"]

_READER: Final = TensorReader(
    pipeline("Request"),
    "tensors",
    TensorFields(texts=9, content=10, content_name="byte_data", elem_type=20, counts=(21, 22), names=(23,)),
    (
        (1, MOST_TENSORS, MOST_NAME_CHARACTERS, -1, False),
        *((number, 1, MOST_NAME_CHARACTERS, -1, False) for number in (4, 5, 7)),
        (6, 1, ANY_BYTES, -1, False),
    ),
)
# Values may be pictures in base64: they are read where they lie, in a walk of their own, because a tensor has
# a field of the same number.
_VALUES: Final = WireTable([[(2, MOST_TENSORS, ANY_BYTES, -1, True)]], MOST_FIELDS, 0)


def read_message(body: bytes) -> dict[str, Any]:
    """The fields of a Request; packed floats are arrays over its bytes.

    Raises
    ------
    RequestError
        400: it is none, or holds more than it may.
    """
    fields = _READER.read(body)
    fault, _, _, _, _, cut = _VALUES.walk(body)
    if fault:
        raise bad_request(f"the Request has more than {MOST_TENSORS} values, which is the most")
    view = memoryview(body)
    try:
        fields["value"] = [str(view[first : first + size], "utf-8") for _, _, first, size in cut]
    except UnicodeDecodeError:
        raise _READER.damaged() from None
    return fields


def write_message(document: Mapping[str, Any]) -> bytes:
    """A Response with these fields; numbers are arrays."""
    data: bytes = pipeline_response(document).SerializeToString()
    return data
