"""A reader of protobuf's wire format: just enough for Paddle's program and parameter files.

Paddle's messages are read without its generated classes, so that looking into a model needs
neither the protobuf package nor the 290 MB of paddle.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Message", "WireError"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZE = {_FIXED64: 8, _FIXED32: 4}


class WireError(ValueError):
    """The bytes are no such protobuf message, or are cut off."""


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            break
    raise WireError("an unfinished number")


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


class Message:
    """One message, by field number; messages inside it are parsed when they are asked for.

    Raises
    ------
    WireError
        From the constructor and from every accessor: the bytes do not hold what was asked for.
    """

    __slots__ = ("_data", "_numbers", "_spans")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        end = len(data) if end is None else end
        self._data = data
        self._numbers: dict[int, list[int]] = {}
        self._spans: dict[int, list[tuple[int, int]]] = {}
        position = start
        while position < end:
            key, position = _varint(data, position, end)
            number, kind = key >> 3, key & 7
            if number == 0:
                raise WireError("a field numbered 0")
            if kind == _VARINT:
                value, position = _varint(data, position, end)
                self._numbers.setdefault(number, []).append(_signed(value))
                continue
            if kind == _BYTES:
                size, position = _varint(data, position, end)
                self._spans.setdefault(number, []).append((position, position + size))
            elif kind in _FIXED_SIZE:
                size = _FIXED_SIZE[kind]
            else:
                raise WireError(f"a field of the unknown wire type {kind}")
            position += size
            if position > end:
                raise WireError(f"field {number} ends {position - end} bytes after the message")

    def integer(self, number: int, default: int | None = None) -> int:
        """The last value of an integer field."""
        values = self._numbers.get(number)
        if values:
            return values[-1]
        if default is None:
            raise WireError(f"field {number} is missing")
        return default

    def integers(self, number: int) -> tuple[int, ...]:
        """A repeated integer field, packed or not."""
        values = list(self._numbers.get(number, ()))
        for start, end in self._spans.get(number, ()):
            position = start
            while position < end:
                value, position = _varint(self._data, position, end)
                values.append(_signed(value))
        return tuple(values)

    def texts(self, number: int) -> tuple[str, ...]:
        """A repeated string field."""
        spans = self._spans.get(number, ())
        try:
            return tuple(self._data[start:end].decode() for start, end in spans)
        except UnicodeDecodeError as error:
            raise WireError(f"field {number} is not UTF-8") from error

    def text(self, number: int) -> str:
        """The last value of a string field."""
        texts = self.texts(number)
        if not texts:
            raise WireError(f"field {number} is missing")
        return texts[-1]

    def messages(self, number: int, *needles: bytes) -> Iterator[Message]:
        """A repeated message field; with needles, only the messages whose bytes contain one of them.

        A search for bytes costs a hundredth of parsing them.
        """
        for start, end in self._spans.get(number, ()):
            if not needles or any(self._data.find(needle, start, end) >= 0 for needle in needles):
                yield Message(self._data, start, end)

    def message(self, number: int) -> Message:
        """The last value of a message field."""
        spans = self._spans.get(number)
        if not spans:
            raise WireError(f"field {number} is missing")
        return Message(self._data, *spans[-1])
