"""Bodies of requests to a service -> values, and answers of a service -> bodies.

A body is counted before it is parsed: what a parser makes of it may take many times its bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from paddleinfer.errors import InvalidInput
from paddleinfer.serve.answer import Answer
from paddleinfer.serve.limits import ServiceLimits

from .large_json import pieces_of

__all__ = ["FORM", "JSON", "WrittenAnswer", "media_type_of", "value_of", "write_answer"]

JSON: Final = "application/json"
FORM: Final = "multipart/form-data"

# Of more than this orjson takes twelve times that for itself.
_LARGE_BYTES: Final = 1 << 19
_OPTION: Final = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_COUNTED: Final = (b",", b":", b"[", b"{")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# These the server writes itself.
_OWN_FIELDS: Final = frozenset({"content-length", "content-type", "content-encoding", "transfer-encoding"})


def media_type_of(content_type: str) -> str:
    """Without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def value_of(body: bytes, content_type: str, limits: ServiceLimits) -> Any:
    """What a body says: JSON, a form's fields and files by their names, or else the bytes.

    Raises
    ------
    InvalidInput
        It is not what its type says, or holds too much.
    """
    media_type = media_type_of(content_type)
    if media_type == JSON or media_type.endswith("+json"):
        return _json(body, limits.max_json_items)
    if media_type == FORM:
        from .form import Form  # brings python-multipart

        return Form(content_type, limits.max_parts).read(body)
    return body


# -- JSON


def _json(body: bytes, most_items: int) -> Any:
    if not body:
        raise InvalidInput("the body is empty, and its Content-Type says JSON")
    count = 0
    if len(body) > most_items:  # else it cannot hold more
        count = sum(piece.count(sign) for piece in pieces_of(body) for sign in _COUNTED)
    if count > most_items:
        raise InvalidInput(
            f"the JSON has {count} commas, colons and opening brackets, and {most_items} is the most "
            "(max_json_items): send much of it as text or as a file"
        )
    try:
        if len(body) <= _LARGE_BYTES:
            return orjson.loads(body)
        return json.loads(body, parse_int=_integer, parse_float=_float, parse_constant=_refuse_constant)
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise InvalidInput("the body is not JSON: it nests too deep") from None


# Python's own functions, between whose calls other threads run: thousands of digits take long to read.


def _integer(text: str) -> int:
    return int(text)


def _float(text: str) -> float:
    return float(text)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


# -- answers


class WrittenAnswer(NamedTuple):
    """An answer as it goes over HTTP."""

    status: int
    media_type: str
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


def write_answer(answer: Any) -> WrittenAnswer:
    """Bytes as they are, text as text, everything else as JSON.

    Raises
    ------
    TypeError, ValueError
        It cannot be written so, which is the service's fault.
    """
    if isinstance(answer, Answer):
        return _as_it_says(answer, *_written(answer.value))
    body, media_type = _written(answer)
    return WrittenAnswer(HTTPStatus.OK, media_type, body)


def _written(value: Any) -> tuple[bytes, str]:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), "application/octet-stream"
    if isinstance(value, str):
        return value.encode(), "text/plain; charset=utf-8"
    return orjson.dumps(value, default=_plain, option=_OPTION), JSON


def _as_it_says(given: Answer, body: bytes, media_type: str) -> WrittenAnswer:
    if isinstance(given.status, bool) or not isinstance(given.status, int) or not 200 <= given.status <= 599:
        raise ValueError(f"the status of an answer must be an integer from 200 to 599, not {given.status!r}")
    if given.status in (204, 205, 304):
        raise ValueError(f"an answer has a body, which the status {given.status} has not")
    media_type = given.media_type or media_type
    if not _FIELD_VALUE.fullmatch(media_type):
        raise ValueError(f"the media type of an answer must be a header's value, not {media_type!r}")
    return WrittenAnswer(given.status, media_type, body, tuple(_fields(given.headers)))


def _fields(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"{name!r}: {value!r} is no header")
        if name.lower() in _OWN_FIELDS:
            raise ValueError(f"the server writes {name} itself")
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


def _plain(value: Any) -> Any:
    """What orjson does not know: arrays that are not contiguous, and dtypes of few bits."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"an answer may hold what JSON can say, not {type(value).__name__}")
