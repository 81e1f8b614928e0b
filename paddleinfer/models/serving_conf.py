"""Reads Paddle Serving's configurations: other names for a model's tensors, and facts about each.

Its shapes leave out the batch axis and every dynamic one, and its dtypes only repeat the program's, so only
the names are used where the model is there. A client without the model uses the rest, too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Union

from paddleinfer.errors import ModelLoadError
from paddleinfer.models.files import read_whole
from paddleinfer.sentences import shown

__all__ = ["CLIENT_FILE_NAME", "ELEM_TYPES", "FILE_NAME", "ServingConf", "ServingVar", "read_conf"]

FILE_NAME = "serving_server_conf.prototxt"
CLIENT_FILE_NAME = "serving_client_conf.prototxt"

ELEM_TYPES: Final = {
    "int64": 0,
    "float32": 1,
    "int32": 2,
    "float64": 3,
    "int16": 4,
    "float16": 5,
    "bfloat16": 6,
    "uint8": 7,
    "int8": 8,
    "bool": 9,
}
"""dtype -> Paddle Serving's number of it, in configurations and in requests."""

_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | \#[^\n]* )
  | (?P<string> "(?:[^"\\\n]|\\.){0,4096}" | '(?:[^'\\\n]|\\.){0,4096}' )
  | (?P<word> [-+.\w]{1,4096} )
  | (?P<sign> [{}<>:\[\],;] )
    """,
    re.VERBOSE,
)
# A model of a hundred tensors needs about a thousand tokens.
_MOST_BYTES = 1 << 20
_MOST_TOKENS = 200_000
"""The most words, signs, and spaces between them."""
_DEEPEST = 32
_MOST_DIGITS = 20
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_PLAIN_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_CLOSING = {"{": "}", "<": ">"}

# A field's value: a scalar's text, or a message's fields in order.
_Value = Union[str, "list[tuple[str, _Value]]"]


@dataclass(frozen=True)
class ServingVar:
    """One ``feed_var`` or ``fetch_var``."""

    name: str
    alias: str
    """The other name; equal to the name if the file gives none."""
    elem_type: int
    """One of ELEM_TYPES, or another number."""
    shape: tuple[int, ...]
    """The sizes without the batch axis and dynamic axes."""


@dataclass(frozen=True)
class ServingConf:
    """The tensors of a configuration, in the file's order."""

    feeds: tuple[ServingVar, ...]
    fetches: tuple[ServingVar, ...]


def read_conf(path: Path) -> ServingConf:
    """Read the feeds and fetches of a configuration.

    Raises
    ------
    ModelLoadError
        The file is empty, not a text protobuf, or describes no feed and no fetch.
    OSError
        The file cannot be read.
    """
    try:
        text = read_whole(path, _MOST_BYTES).decode()
    except UnicodeDecodeError as error:
        raise ModelLoadError(f"{path} is not a Paddle Serving configuration: it is not UTF-8 text") from error
    fields = _Parser(text, path).message(closing=None)
    conf = ServingConf(_vars(fields, "feed", path), _vars(fields, "fetch", path))
    if not conf.feeds and not conf.fetches:
        raise ModelLoadError(
            f"{path} is not a Paddle Serving configuration: it has no feed_var and no fetch_var"
        )
    return conf


def _vars(fields: list[tuple[str, _Value]], side: str, path: Path) -> tuple[ServingVar, ...]:
    found = []
    for key, value in fields:
        if key != f"{side}_var":
            continue
        members = value if isinstance(value, list) else []
        texts = {member: text for member, text in members if isinstance(text, str)}
        name = texts.get("name")
        if not name:
            raise ModelLoadError(f"{path} has a {key} without a name")
        what = f"{key} {shown(name)} of {path}"
        elem_type = _number(texts.get(f"{side}_type", "0"), f"{side}_type of {what}")
        shape = (_number(text, f"shape of {what}") for member, text in members if member == "shape")
        found.append(ServingVar(name, texts.get("alias_name") or name, elem_type, tuple(shape)))
    return tuple(found)


def _number(text: _Value, what: str) -> int:
    try:
        if isinstance(text, str) and len(text) <= _MOST_DIGITS:
            return int(text, 0)
    except ValueError:
        pass
    raise ModelLoadError(f"the {what} must be an integer, not {shown(text)}")


class _Parser:
    """A recursive-descent parser of the small part of the text format that Paddle Serving uses."""

    def __init__(self, text: str, path: Path) -> None:
        self._text = text
        self._path = path
        self._kind = ""
        self._token = ""
        self._start = self._end = 0
        self._tokens = self._depth = 0
        self._advance()

    def message(self, closing: str | None) -> list[tuple[str, _Value]]:
        """Reads the fields up to the closing bracket or the end of the file."""
        fields: list[tuple[str, _Value]] = []
        while self._kind != "end" and self._token != closing:
            if self._kind != "word":
                self._fail("a field's name")
            key = self._token
            self._advance()
            fields.extend((key, value) for value in self._values())
            if self._token in (",", ";"):
                self._advance()
        if closing is not None:
            if self._kind == "end":
                self._fail(f"a closing {closing}")
            self._advance()
        return fields

    def _values(self) -> list[_Value]:
        if self._token in _CLOSING:
            return [self._nested()]
        if self._token != ":":
            self._fail("':' or '{'")
        self._advance()
        if self._token != "[":
            return [self._value()]
        values: list[_Value] = []
        self._advance()
        while self._token != "]":
            values.append(self._value())
            if self._token == ",":
                self._advance()
            elif self._token != "]":
                self._fail("',' or ']'")
        self._advance()
        return values

    def _value(self) -> _Value:
        if self._token in _CLOSING:
            return self._nested()
        if self._kind == "word":
            word = self._token
            self._advance()
            return word
        if self._kind != "string":
            self._fail("a value")
        parts = []
        while self._kind == "string":  # adjacent strings are one, as in C
            parts.append(_unescape(self._token[1:-1]))
            self._advance()
        try:
            return b"".join(parts).decode()
        except UnicodeDecodeError:
            self._fail("UTF-8 text in the string before")

    def _nested(self) -> _Value:
        closing = _CLOSING[self._token]
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse("it nests too deep")
        self._advance()
        fields = self.message(closing)
        self._depth -= 1
        return fields

    def _advance(self) -> None:
        while True:
            self._tokens += 1
            if self._tokens > _MOST_TOKENS:
                self._refuse(f"it has more than {_MOST_TOKENS:,} words, signs and spaces")
            self._start = self._end
            if self._start == len(self._text):
                self._kind, self._token = "end", ""
                return
            match = _TOKEN.match(self._text, self._start)
            if match is None:
                self._kind, self._token = "unknown", self._text[self._start]
                self._fail("a field")
            self._end = match.end()
            if match.lastgroup != "space":
                self._kind, self._token = str(match.lastgroup), match.group()
                return

    def _refuse(self, why: str) -> NoReturn:
        raise ModelLoadError(f"{self._path} is not a Paddle Serving configuration: {why}")

    def _fail(self, expected: str) -> NoReturn:
        line = self._text.count("\n", 0, self._start) + 1
        found = "the file ends" if self._kind == "end" else f"{self._token!r} stands"
        raise ModelLoadError(
            f"{self._path} is truncated or not a Paddle Serving configuration: "
            f"{found} in line {line} where {expected} should be"
        )


def _unescape(text: str) -> bytes:
    # protobuf's own printer writes non-ASCII text as octal bytes.
    def replace(match: re.Match[bytes]) -> bytes:
        octal, hexadecimal, plain = match.groups()
        if octal:
            return bytes([int(octal, 8) & 0xFF])
        if hexadecimal:
            return bytes([int(hexadecimal, 16)])
        return _PLAIN_ESCAPES.get(plain, plain)

    return _ESCAPE.sub(replace, text.encode())
