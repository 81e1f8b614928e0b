"""Reads protobuf's wire format, as far as Paddle's program and parameter files need it.

Paddle's messages are read without its generated classes, so that inspecting a model needs
neither the protobuf package nor the 290 MB of paddle.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

__all__ = ["MOST_FIELDS", "Allowance", "Message", "WireError", "length_delimited"]

MOST_FIELDS = 2_000_000
"""The most fields in all messages read from one file. The largest programs need a few hundred thousand."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZE = {_FIXED64: 8, _FIXED32: 4}
# No field with a higher number is needed here.
_HIGHEST_NUMBER = 31


class WireError(ValueError):
    """The bytes are not such a protobuf message, are cut off, or have more fields than any program."""


class Allowance:
    """Counts how many more fields may be read, over all messages of one file."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields = MOST_FIELDS

    def take(self) -> None:
        """Takes one field; raises WireError where none is left."""
        if self.fields == 0:
            raise WireError(f"more than {MOST_FIELDS:,} fields")
        self.fields -= 1


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
    """One message, by field number; nested messages are parsed when they are asked for.

    Raises
    ------
    WireError
        The bytes do not hold what was asked for. The constructor and every accessor may raise it.
    """

    __slots__ = ("_allowance", "_data", "_numbers", "_spans")

    def __init__(
        self, data: bytes, start: int = 0, end: int | None = None, allowance: Allowance | None = None
    ) -> None:
        end = len(data) if end is None else end
        self._data = data
        self._allowance = allowance = allowance or Allowance()
        # Arrays: a list of Python's integers would take twenty times the bytes of the smallest fields.
        self._numbers: dict[int, array[int]] = {}
        self._spans: dict[int, array[int]] = {}  # a field's begin, its end, the next one's begin, ...
        left = allowance.fields
        position = start
        while position < end:
            if left == 0:
                raise WireError(f"more than {MOST_FIELDS:,} fields")
            left -= 1
            key = data[position]
            if key < 0x80:
                position += 1
            else:
                key, position = _varint(data, position, end)
            number, kind = key >> 3, key & 7
            if number == 0:
                raise WireError("a field numbered 0")
            if kind == _VARINT:
                if position < end and data[position] < 0x80:
                    value = data[position]
                    position += 1
                else:
                    value, position = _varint(data, position, end)
                if number <= _HIGHEST_NUMBER:
                    if number in self._numbers:
                        self._numbers[number].append(_signed(value))
                    else:
                        self._numbers[number] = array("q", (_signed(value),))
                continue
            if kind == _BYTES:
                size, position = _varint(data, position, end)
            elif kind in _FIXED_SIZE:
                size = _FIXED_SIZE[kind]
            else:
                raise WireError(f"a field of the unknown wire type {kind}")
            begin = position
            position += size
            if position > end:
                raise WireError(f"field {number} ends {position - end} bytes after the message")
            if kind == _BYTES and number <= _HIGHEST_NUMBER:
                if number in self._spans:
                    self._spans[number].extend((begin, position))
                else:
                    self._spans[number] = array("q", (begin, position))
        allowance.fields = left

    def count(self, number: int) -> int:
        """Returns how many values a repeated field of texts or messages has."""
        return len(self._spans.get(number, ())) // 2

    def integer(self, number: int, default: int | None = None) -> int:
        """Returns the last value of an integer field."""
        values = self._numbers.get(number)
        if values:
            return values[-1]
        if default is None:
            raise WireError(f"field {number} is missing")
        return default

    def integers(self, number: int, most: int | None = None) -> tuple[int, ...]:
        """Returns the values of a repeated integer field, packed or not; more than `most` are an error."""
        values = self._numbers.get(number, array("q"))[:]
        for start, end in self._pairs(number):
            position = start
            while position < end:
                value, position = _varint(self._data, position, end)
                values.append(_signed(value))
                if most is not None and len(values) > most:
                    break
        if most is not None and len(values) > most:
            raise WireError(f"field {number} has more than {most} values")
        return tuple(values)

    def texts(self, number: int) -> tuple[str, ...]:
        """Returns the values of a repeated string field."""
        try:
            return tuple(self._data[start:end].decode() for start, end in self._pairs(number))
        except UnicodeDecodeError as error:
            raise WireError(f"field {number} is not UTF-8") from error

    def text(self, number: int) -> str:
        """Returns the last value of a string field."""
        spans = self._spans.get(number)
        if not spans:
            raise WireError(f"field {number} is missing")
        try:
            return self._data[spans[-2] : spans[-1]].decode()
        except UnicodeDecodeError as error:
            raise WireError(f"field {number} is not UTF-8") from error

    def messages(self, number: int, *needles: bytes) -> Iterator[Message]:
        """Returns a repeated message field; with needles, only the messages whose bytes contain one of them.

        A search for bytes costs a hundredth of parsing them.
        """
        for start, end in self._pairs(number):
            if not needles or any(self._data.find(needle, start, end) >= 0 for needle in needles):
                yield Message(self._data, start, end, self._allowance)

    def message(self, number: int) -> Message:
        """Returns the last value of a message field."""
        spans = self._spans.get(number)
        if not spans:
            raise WireError(f"field {number} is missing")
        return Message(self._data, spans[-2], spans[-1], self._allowance)

    def _pairs(self, number: int) -> Iterator[tuple[int, int]]:
        spans = self._spans.get(number, array("q"))
        return zip(spans[::2], spans[1::2], strict=True)


def length_delimited(number: int, size_bytes: int) -> bytes:
    """Returns the bytes before a field's content: its number and the content's size."""
    written = bytearray([number << 3 | 2])
    while size_bytes > 0x7F:
        written.append(size_bytes & 0x7F | 0x80)
        size_bytes >>= 7
    written.append(size_bytes)
    return bytes(written)
