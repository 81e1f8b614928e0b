"""Tensors of the datatype BYTES: arrays of objects, each ``bytes``.

In JSON each is a text, in binary its bytes stand after their number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paddleinfer.models.reader import TensorSpec

from .errors import RequestError, bad_request

__all__ = [
    "BYTES",
    "MOST_ELEMENTS",
    "has_bytes",
    "is_bytes",
    "packed",
    "read_list",
    "read_packed",
    "size_of",
    "texts_of",
]

Array = npt.NDArray[Any]

BYTES: Final = "BYTES"
MOST_ELEMENTS: Final = 1 << 18
"""Of one tensor: each is an object, which takes some 40 bytes more than on the wire."""

_LENGTH: Final = struct.Struct("<I")


def is_bytes(array: Array) -> bool:
    """Whether its datatype is BYTES."""
    return array.dtype.kind == "O"


def has_bytes(specs: Iterable[TensorSpec]) -> bool:
    """Whether one of these is of BYTES."""
    return "bytes" in [spec.dtype for spec in specs]  # asked of every request: faster than any()


def _check_count(count: int, name: str) -> None:
    if count > MOST_ELEMENTS:
        raise bad_request(f"input {name!r} has {count} elements of BYTES, and {MOST_ELEMENTS} is the most")


def read_packed(data: bytes | memoryview, shape: tuple[int, ...], count: int, name: str) -> Array:
    """The binary form: of each element its length, 4 bytes little-endian, and its bytes.

    Raises
    ------
    RequestError
        400: there are more or fewer than the shape says.
    """
    _check_count(count, name)
    array, place, size = np.empty(count, object), 0, len(data)
    for index in range(count):
        begin = place + 4
        place = begin + _LENGTH.unpack_from(data, place)[0] if begin <= size else size + 1
        if place > size:
            raise _wrong_count(name, shape, f"has {size} bytes, which hold {index} elements")
        array[index] = bytes(data[begin:place])
    if place < size:
        raise _wrong_count(name, shape, f"has {size - place} bytes more than its elements")
    return array.reshape(shape)


def _wrong_count(name: str, shape: tuple[int, ...], found: str) -> RequestError:
    return bad_request(
        f"input {name!r} {found}; a BYTES tensor of the shape {list(shape)} has each element after its length"
    )


def read_list(flat: list[Any], shape: tuple[int, ...], name: str) -> Array:
    """Of JSON's texts or gRPC's bytes, as many as the shape says; RequestError 400 for anything else."""
    _check_count(len(flat), name)
    array = np.empty(len(flat), object)
    for index, element in enumerate(flat):
        if not isinstance(element, (bytes, str)):
            raise bad_request(
                f'"data" of input {name!r} holds values that are no strings, which BYTES are in JSON'
            )
        array[index] = element.encode("utf-8", "surrogatepass") if isinstance(element, str) else element
    return array.reshape(shape)


def packed(array: Array) -> bytes:
    """The binary form of an array."""
    parts = []
    for element in array.flat:
        parts += [_LENGTH.pack(len(element)), element]
    return b"".join(parts)


def texts_of(array: Array, name: str) -> list[str]:
    """Its elements as JSON has them.

    Raises
    ------
    RequestError
        400: one is no UTF-8, and only the binary form can hold it.
    """
    try:
        return [element.decode() for element in array.flat]
    except UnicodeDecodeError:
        raise bad_request(
            f"output {name!r} holds bytes that are no UTF-8, which JSON cannot say: "
            "ask for it by the parameter binary_data"
        ) from None


def size_of(array: Array) -> int:
    """Its bytes as it is written."""
    return sum(map(len, array.flat)) + 4 * array.size
