"""Checks requests of either protocol: parameters, and the datatypes, shapes and sizes of inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paddleinfer.sentences import shown

from .datatypes import DATATYPE_OF, DTYPE_OF
from .errors import bad_request

__all__ = [
    "MOST_NAME_CHARACTERS",
    "MOST_PARAMETERS",
    "MOST_TENSORS",
    "array_of_bytes",
    "check_count",
    "check_dimensions",
    "check_name",
    "check_range",
    "check_size",
    "dtype_of",
    "flag",
    "priority_of",
    "refuse_unoffered",
    "shape_of",
    "timeout_s_of",
    "whole",
]

MOST_TENSORS: Final = 1024
"""The most inputs, and the most requested outputs, of one request."""
MOST_PARAMETERS: Final = 256
"""The most parameters of one request, input or output."""
MOST_NAME_CHARACTERS: Final = 1024
"""The most characters of an input's or output's name."""

_MOST_DIMENSIONS: Final = 32
# The engine's priorities are 0 to 2; in the protocol 0 is "the default" and 1 the most urgent.
_CLASS_OF_PRIORITY: Final = {0: 1, 1: 0, 2: 1}
_LEAST_URGENT: Final = 2
# The refusals of parameters that would change the result and are not offered.
_REFUSED: Final = {
    "shared_memory_region": "shared memory is not offered; send the tensor in the body",
    "sequence_id": "sequences are not offered; each request stands alone",
}
_INT64_MAX: Final = (1 << 63) - 1


def check_count(count: int, most: int, owner: str, what: str) -> None:
    """Raises RequestError 400 if the owner has more than `most`: "inputs" of "the request"."""
    if count > most:
        raise bad_request(f"{owner} has {count} {what}, and {most} is the most")


def check_name(name: str, what: str) -> None:
    """Raises RequestError 400 for a name that is too long to be quoted in sentences."""
    if len(name) > MOST_NAME_CHARACTERS:
        raise bad_request(
            f"the name of {what} has {len(name)} characters, and {MOST_NAME_CHARACTERS} is the most"
        )


# -- parameters


def refuse_unoffered(parameters: Mapping[str, Any], what: str) -> None:
    """Raises RequestError 400 for a parameter that would change the result and is not offered."""
    for name, why in _REFUSED.items():
        if parameters.get(name):
            raise bad_request(f"{what} asks for {name}: {why}")


def flag(parameters: Mapping[str, Any], name: str, what: str) -> bool | None:
    """Reads a true or false parameter; None if it is not given; raises RequestError 400 for other values."""
    value = parameters.get(name)
    if value is not None and type(value) is not bool:
        raise bad_request(f"{name} of {what} must be true or false, not {shown(value)}")
    return value


def whole(parameters: Mapping[str, Any], name: str, what: str) -> int | None:
    """Reads a parameter that counts; None if it is not given; raises RequestError 400 for other values."""
    value = parameters.get(name)
    if value is not None and (type(value) is not int or value < 0):
        raise bad_request(f"{name} of {what} must be an integer from 0 up, not {shown(value)}")
    return value


def priority_of(parameters: Mapping[str, Any]) -> int:
    """Returns the engine's priority of a request with these parameters."""
    given = whole(parameters, "priority", "the request") or 0
    return _CLASS_OF_PRIORITY.get(given, _LEAST_URGENT)


def timeout_s_of(parameters: Mapping[str, Any]) -> float | None:
    """Returns the timeout of a request with these parameters, in seconds."""
    # Triton's timeout is in microseconds; 0 means that none is given.
    given_us = whole(parameters, "timeout", "the request")
    return given_us / 1e6 if given_us else None


# -- inputs


def dtype_of(datatype: Any, name: str, *, takes_bytes: bool = False) -> np.dtype[Any]:
    """Returns the dtype of an input, objects for BYTES, which only services take; raises RequestError 400."""
    try:
        return DTYPE_OF[datatype]
    except (KeyError, TypeError):
        pass
    if datatype == "BYTES" and takes_bytes:
        return np.dtype(object)
    if datatype == "BYTES":
        raise bad_request(f"input {name!r} has the datatype BYTES, and Paddle's models take no strings")
    raise bad_request(
        f"the datatype of input {name!r} must be one of {', '.join(DTYPE_OF)}, not {shown(datatype)}"
    )


def check_dimensions(count: int, name: str) -> None:
    """Raises RequestError 400 for more dimensions than NumPy allows."""
    if count > _MOST_DIMENSIONS:
        raise bad_request(f"input {name!r} has {count} dimensions, and {_MOST_DIMENSIONS} is the most")


def shape_of(shape: Any, name: str) -> tuple[tuple[int, ...], int]:
    """Returns the shape in a list of dimensions, and its number of elements; raises RequestError 400."""
    if type(shape) is list:
        check_dimensions(len(shape), name)
    count = 1
    for dim in shape if type(shape) is list else (None,):
        if type(dim) is not int or not 0 <= dim <= _INT64_MAX:
            raise bad_request(
                f"the shape of input {name!r} must be a list of integers from 0 up, not {shown(shape)}"
            )
        count *= dim
    # NumPy counts the bytes of the other axes even if one is 0.
    if 8 * (count or math.prod(dim or 1 for dim in shape)) > _INT64_MAX:
        raise bad_request(f"the shape of input {name!r} has more elements than can be counted")
    return tuple(shape), count


def check_size(size_bytes: int, dtype: np.dtype[Any], shape: tuple[int, ...], count: int, name: str) -> None:
    """Raises RequestError 400 if `size_bytes` does not fit `count` elements of this shape."""
    if size_bytes != count * dtype.itemsize:
        raise bad_request(
            f"input {name!r} has {size_bytes} bytes, but {list(shape)} of {DATATYPE_OF[dtype]} "
            f"takes {count * dtype.itemsize}"
        )


def check_range(lowest: int, highest: int, dtype: np.dtype[Any], what: str) -> None:
    """Raises RequestError 400 if integers from `lowest` to `highest` do not all fit this dtype."""
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if lowest < low or highest > high:
        raise bad_request(
            f"{what} goes from {lowest} to {highest}, and {DATATYPE_OF[dtype]} from {low} to {high}"
        )


def array_of_bytes(data: bytes | memoryview, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Makes a flat array over these bytes, without a copy if possible."""
    if dtype.kind == "b":
        return np.frombuffer(data, np.uint8).astype(bool)  # any byte but 0 is true
    array = np.frombuffer(data, dtype)
    # The JSON before it may have any length; one copy here costs less than the engine's work on such arrays.
    return array if array.flags.aligned else array.copy()
