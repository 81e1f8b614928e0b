"""Reads large JSON requests: the numbers of their tensors in pieces; the rest must be small.

A parser makes an object of 32 to 64 bytes of each number and each pair of brackets, in one call that holds
the GIL: 30 MB of ``[],[],`` become 600 MB, and nothing else runs for a second. Here the lists under "data"
are cut out of the text first and never become lists of lists; the rest is parsed once it is known to hold
few things. Nothing here takes long between two bytecodes, so it may run beside the loop.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from .errors import RequestError, bad_request

__all__ = ["SMALL_BYTES", "NumberText", "check_unread", "parse_large", "pieces_of"]

SMALL_BYTES: Final = 64 << 10
"""JSON up to this size is parsed at once: whatever it holds, that takes 3 MB and 3 ms at most."""

# Limits of everything that is not a tensor's data. Beyond 0.7 MB orjson itself takes twelve times the size.
_MOST_REST_BYTES: Final = 1 << 19
_MOST_CONTAINERS: Final = 8192
_MOST_STRINGS: Final = 1 << 16
_MOST_COMMAS: Final = 1 << 16
_MOST_LISTS: Final = 4096

# How much is scanned in one call.
_PIECE_BYTES: Final = 1 << 20
# How much is parsed in one call, and up to the next comma.
_PARSED_BYTES: Final = 1 << 16
_MOST_BETWEEN_COMMAS: Final = 1 << 19
# How much may follow a list before its object's end or the next key; more is left to the parser.
_MOST_AFTER_LIST: Final = 1024

_QUOTE_OR_ESCAPE: Final = re.compile(rb'["\\]')
_TO_LIST: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*(?=\[)")
_NO_BRACKETS: Final = bytes.maketrans(b"[]", b"  ")
_SPACE: Final = b" \t\r\n"
# All characters of numbers become one character.
_VALUES: Final = b"0123456789eE+.truefalsn-"
_ONE_VALUE: Final = bytes.maketrans(_VALUES, b"0" * len(_VALUES))

Array = npt.NDArray[Any]
Typed = Callable[[list[Any]], Array]


def pieces_of(data: bytes, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes from `begin` to `end`, so many at a time as one call may look at."""
    last = len(data) if end is None else end
    for first in range(begin, last, _PIECE_BYTES):
        yield data[first : min(first + _PIECE_BYTES, last)]


class NumberText:
    """The text of one list of numbers, nested or flat, inside a request's body."""

    __slots__ = ("_begin", "_body", "_end")

    def __init__(self, body: bytes, begin: int, end: int) -> None:
        self._body, self._begin, self._end = body, begin, end

    def check(self, shape: tuple[int, ...], count: int, name: str) -> None:
        """Raises RequestError 400 unless it is nested as this shape or a flat list of `count`."""
        if self._is_flat():
            commas = sum(piece.count(b",") for piece in self._pieces())
            if commas != max(count, 1) - 1:
                raise bad_request(
                    f'"data" of input {name!r} has {commas + 1} elements, but its shape is {list(shape)}'
                )
            return
        structure = b"".join(piece.translate(None, _VALUES + _SPACE) for piece in self._pieces())
        if not _has_structure(structure, shape):
            raise bad_request(f'"data" of input {name!r} is not nested as its shape {list(shape)} says')

    def read(self, count: int, dtype: np.dtype[Any], typed: Typed) -> Array:
        """Returns the `count` numbers as one array; `typed` makes an array of a part of them.

        Raises
        ------
        RequestError
            400: it is not JSON, or `typed` refuses a part.
        """
        array = np.empty(count, dtype)
        filled = 0
        has_booleans = has_others = False
        if not count:
            if any(piece.translate(None, b"[]," + _SPACE) for piece in self._pieces()):
                raise bad_request('a list in "data" has an element, and its shape has none')
            return array
        for values in self._values():
            if filled + len(values) > count:
                break
            array[filled : filled + len(values)] = typed(values)
            filled += len(values)
            if dtype.kind == "b" and values:
                booleans = type(values[0]) is bool  # `typed` takes numbers of one kind at once
                has_booleans, has_others = has_booleans or booleans, has_others or not booleans
        if filled != count or (has_booleans and has_others):
            raise bad_request('the body is not JSON: a list in "data" has an element that is not a number')
        return array

    def __len__(self) -> int:
        """Its bytes."""
        return self._end - self._begin

    def check_json(self) -> None:
        """Raises RequestError 400 if it is not JSON; for short texts."""
        _loads(self._body[self._begin : self._end], self._begin)

    def _is_flat(self) -> bool:
        # The first and the last character are brackets.
        return (
            self._body.find(b"[", self._begin + 1, self._end) < 0
            and self._body.find(b"]", self._begin, self._end - 1) < 0
        )

    def _pieces(self) -> Iterator[bytes]:
        return pieces_of(self._body, self._begin, self._end)

    def _values(self) -> Iterator[list[Any]]:
        """Yields some of the numbers at a time."""
        body, flat = memoryview(self._body), self._is_flat()
        inset = 1 if flat else 0
        for begin, end in self._parts(self._begin + inset, self._end - inset):
            part: bytes | memoryview = (
                body[begin:end] if flat else _without_brackets(self._body[begin:end], begin)
            )
            yield _loads(b"".join((b"[", part, b"]")), begin - 1)

    def _parts(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Yields (begin, end) from comma to comma."""
        while begin <= end:
            least = min(begin + _PARSED_BYTES, end)
            comma = self._body.find(b",", least, min(least + _MOST_BETWEEN_COMMAS, end))
            if comma < 0:
                if least + _MOST_BETWEEN_COMMAS < end:
                    raise bad_request(
                        f'the body has {_MOST_BETWEEN_COMMAS} bytes without a comma in "data", '
                        f"near byte {least}"
                    )
                comma = end
            yield begin, comma
            begin = comma + 1


def _without_brackets(part: bytes, begin: int) -> bytes:
    kinds = part.translate(_ONE_VALUE, _SPACE)
    if b"0[" in kinds or b"]0" in kinds or b"][" in kinds:
        raise bad_request(f'the body is not JSON: a comma is missing in "data", near byte {begin}')
    return part.translate(_NO_BRACKETS)


def _loads(text: bytes, begin: int) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not JSON: {error.msg}, near byte {begin + error.pos}") from None


# -- what brackets and commas a shape has


def _has_structure(text: bytes, shape: tuple[int, ...]) -> bool:
    if 0 in shape:  # axes after one without elements are not written
        shape = shape[: shape.index(0) + 1]
    if len(text) != _structure_bytes(shape):
        return False
    begin, end = 0, len(text)
    for axis, dim in enumerate(shape):
        if text[begin : begin + 1] != b"[" or text[end - 1 : end] != b"]":
            return False
        begin, end = begin + 1, end - 1
        if dim > 1:
            unit = _structure(shape[axis + 1 :]) + b","
            units = unit * max(1, _PIECE_BYTES // len(unit))
            pieces = ((at, min(at + len(units), end)) for at in range(begin, end, len(units)))
            return all(text[at:to] == units[: to - at] for at, to in pieces)
    return begin == end


def _structure_bytes(shape: tuple[int, ...]) -> int:
    size = 0
    for dim in reversed(shape):
        size = dim * (size + 1) + 1 if dim else 2
    return size


def _structure(shape: tuple[int, ...]) -> bytes:
    text = b""
    for dim in reversed(shape):
        text = b"".join((b"[", (text + b",") * (dim - 1), text, b"]")) if dim else b"[]"
    return text


# -- the whole body


def parse_large(body: bytes) -> tuple[Any, dict[str, NumberText]]:
    """Parses the document with texts in place of the lists under "data"; returns it and the texts' lists.

    Raises
    ------
    RequestError
        400: it is not JSON, or holds too many things; 413: it is too large besides those lists.
    """
    cuts = list(islice(_lists(body), _MOST_LISTS + 1))
    if len(cuts) > _MOST_LISTS:
        raise bad_request(f'the JSON has more than {_MOST_LISTS} lists in "data"')
    rest_bytes = len(body) - sum(end - begin for begin, end in cuts)
    if rest_bytes > _MOST_REST_BYTES:
        raise RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f'the JSON has {rest_bytes} bytes besides the numbers in "data", '
            f"and {_MOST_REST_BYTES} is the most",
        )
    secret = secrets.token_hex(8)  # no text of the client equals one of these
    texts = {f"{secret}-{number}": NumberText(body, *cut) for number, cut in enumerate(cuts)}
    parts: list[bytes] = []
    begin = 0
    for (at, end), text in zip(cuts, texts, strict=True):
        parts += [body[begin:at], b'"%b"' % text.encode()]
        begin = end
    rest = b"".join([*parts, body[begin:]])
    containers, commas = rest.count(b"[") + rest.count(b"{"), rest.count(b",")
    if containers > _MOST_CONTAINERS:
        raise bad_request(f"the JSON has {containers} lists and objects, and {_MOST_CONTAINERS} is the most")
    if commas > _MOST_COMMAS:
        raise bad_request(
            f'the JSON has {commas} values besides the numbers in "data", and {_MOST_COMMAS} is the most'
        )
    try:
        return orjson.loads(rest), texts
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the body is not JSON: {error.msg}") from None


def check_unread(texts: Iterable[NumberText]) -> None:
    """Raises RequestError if lists under "data" that belong to no input are large or not JSON."""
    size = 0
    for text in texts:
        size += len(text)
        if size > SMALL_BYTES:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f'more than {SMALL_BYTES} bytes of the JSON are lists in "data" that belongs to no input',
            )
        text.check_json()


def _lists(body: bytes) -> Iterator[tuple[int, int]]:
    """Yields (begin, end) of each list without texts under a key "data"."""
    position = strings = string_bytes = 0
    while (position := body.find(b'"', position)) >= 0:
        strings += 1
        if strings > _MOST_STRINGS:
            raise bad_request(f"the JSON has more than {_MOST_STRINGS} texts, keys among them")
        begin, position = position, _end_of_string(body, position)
        string_bytes += position - begin
        if string_bytes > _MOST_REST_BYTES:  # the rest is too large, whatever comes
            return
        if body[begin:position] != b'"data"':
            continue
        value = _TO_LIST.match(body, position, position + _MOST_AFTER_LIST)
        end = None if value is None else _end_of_list(body, value.end())
        if value is not None and end is not None:
            yield value.end(), end
            position = end


def _end_of_string(body: bytes, begin: int) -> int:
    """Returns the place after its closing quote; if that is far away, some place beyond the limit."""
    position, last = begin + 1, begin + 1 + _MOST_REST_BYTES
    while (found := _QUOTE_OR_ESCAPE.search(body, position, last)) is not None:
        if found[0] == b'"':
            return found.end()
        position = found.end() + 1
    return last


def _end_of_list(body: bytes, begin: int) -> int | None:
    """Returns the place after its last bracket; None if it holds texts or objects."""
    # It ends before the next key or with its object. Its content is checked when it is read.
    quote = body.find(b'"', begin)
    last = quote if quote >= 0 else len(body)
    brace = body.find(b"}", begin, last)  # no farther, because the next list is scanned from there
    end = brace if brace >= 0 else last
    first = max(begin, end - _MOST_AFTER_LIST)
    tail = body[first:end].rstrip(_SPACE).removesuffix(b",").rstrip(_SPACE)  # before the next key
    return first + len(tail) if tail.endswith(b"]") else None
