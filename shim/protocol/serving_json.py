"""JSON in Paddle Serving's forms: documents are counted before they are parsed, and arrays become text."""

from __future__ import annotations

import base64
from typing import Any, Final

import numpy as np
import orjson

from paddleinfer.serving.formats.texts import array_text

from .errors import bad_request
from .large_json import SMALL_BYTES, pieces_of

__all__ = ["CountedJson", "make_jsonable", "object_of", "write_document"]

# A number takes 40 bytes as an object, and a list 60. One call of the parser makes them all.
_MOST_COMMAS: Final = 1 << 20
_MOST_CONTAINERS: Final = 1 << 16
_MOST_OF: Final = {b",": f"{_MOST_COMMAS} values", b"[{": f"{_MOST_CONTAINERS} lists and objects"}


def object_of(body: bytes) -> dict[str, Any]:
    """The document, if it is known to hold few enough things."""
    if len(body) > SMALL_BYTES:
        CountedJson().count(body)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not JSON: {error.msg}") from None
    if type(document) is not dict:
        raise bad_request("the body must be a JSON object")
    return document


class CountedJson:
    """Parses texts that hold few enough things, all of them together.

    The texts of a request are counted by themselves, too: in its body their commas may be written as escapes.
    """

    def __init__(self) -> None:
        self._left = {b",": _MOST_COMMAS, b"[{": _MOST_CONTAINERS}

    def loads(self, text: str) -> Any:
        """Raises RequestError 400 for too many things, and ValueError for what is not JSON."""
        data = text.encode()
        self.count(data)
        return orjson.loads(data)

    def count(self, data: bytes) -> None:
        """Raises RequestError 400 where it and those before it hold too many values, lists or objects."""
        for piece in pieces_of(data):
            for signs in self._left:
                self._left[signs] -= sum(piece.count(sign) for sign in signs)
                if self._left[signs] < 0:
                    raise bad_request(
                        f"the JSON has more than {_MOST_OF[signs]}, which is the most; "
                        "/v2/models/NAME/infer takes larger tensors, as bytes"
                    )


def write_document(document: dict[str, Any]) -> bytes:
    """A pipeline's answer, whose tensors hold arrays and bytes."""
    for tensor in document.get("tensors", ()):
        make_jsonable(tensor)
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def make_jsonable(tensor: dict[str, Any]) -> None:
    """Numbers become text; bytes become base64."""
    for name, value in tensor.items():
        if isinstance(value, np.ndarray):
            tensor[name] = orjson.Fragment(array_text(value))
        elif isinstance(value, bytes):
            tensor[name] = base64.b64encode(value).decode()
