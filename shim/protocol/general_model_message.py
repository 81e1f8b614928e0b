"""Messages of Paddle Serving's general service <-> documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from paddleinfer.serving.formats.messages import general_model
from paddleinfer.serving.formats.tensors import fill_tensor

from .checks import MOST_NAME_CHARACTERS, MOST_TENSORS
from .tensor_message import ANY_BYTES, TensorFields, TensorReader

__all__ = ["read_message", "write_message"]

_Response: Final = general_model("Response")

_READER: Final = TensorReader(
    general_model("Request"),
    "tensor",
    TensorFields(
        texts=9, elem_type=10, counts=(11, 12), names=(13, 14), content=15, content_name="tensor_content"
    ),
    (
        (2, MOST_TENSORS, MOST_NAME_CHARACTERS, -1, False),
        (3, 1, ANY_BYTES, -1, False),
        (4, 1, ANY_BYTES, -1, False),
    ),
)


def read_message(body: bytes) -> dict[str, Any]:
    """The fields of a Request; packed floats are arrays over its bytes.

    Raises
    ------
    RequestError
        400: it is none, or holds more than it may.
    """
    return _READER.read(body)


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
