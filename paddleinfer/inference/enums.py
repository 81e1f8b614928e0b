"""The enumerations of ``paddle.inference``, with its names and numbers, and without importing Paddle."""

from __future__ import annotations

from enum import Enum

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.config.checks import is_int
from paddleinfer.errors import InvalidInput
from paddleinfer.sentences import listed, shown

__all__ = ["DataType", "PlaceType", "PrecisionType", "data_type_of", "get_num_bytes_of_data_type"]


class _Numbered(Enum):
    def __int__(self) -> int:
        return int(self.value)


class DataType(_Numbered):
    """The dtype of a tensor."""

    FLOAT32 = 0
    """A floating-point number of 32 bits."""
    INT64 = 1
    """An integer of 64 bits."""
    INT32 = 2
    """An integer of 32 bits."""
    UINT8 = 3
    """An integer of 8 bits without a sign."""
    INT8 = 4
    """An integer of 8 bits."""
    FLOAT16 = 5
    """A floating-point number of 16 bits."""
    BOOL = 6
    """True or false, in a byte."""
    FLOAT64 = 7
    """A floating-point number of 64 bits."""
    BFLOAT16 = 8
    """A floating-point number with the range of 32 bits in 16; NumPy gets it as uint16."""


class PlaceType(_Numbered):
    """The kind of device that a tensor is on."""

    UNK = -1
    """Not known yet."""
    CPU = 0
    """The memory of the host."""
    GPU = 1
    """An NVIDIA or AMD GPU."""
    XPU = 2
    """A Kunlun accelerator."""
    CUSTOM = 4
    """A device of a plug-in."""


class PrecisionType(_Numbered):
    """The precision of a model's operators."""

    Float32 = 0
    """The model's own 32 bits."""
    Int8 = 1
    """Integers of 8 bits."""
    Half = 2
    """Floating-point numbers of 16 bits."""
    Bfloat16 = 3
    """The range of 32 bits in 16."""


def data_type_of(dtype: npt.DTypeLike) -> DataType:
    """Returns Paddle's name for a dtype of NumPy; uint16 is how Paddle hands bfloat16 to NumPy.

    Raises
    ------
    InvalidInput
        ``paddle.inference`` has no name for it, as for int16.
    """
    wanted = np.dtype(dtype)
    if wanted == np.uint16:
        return DataType.BFLOAT16
    for kind in DataType:
        if _ext.NUMPY_DTYPES[kind.name.lower()] == wanted:
            return kind
    raise InvalidInput(
        f"paddle.inference has no DataType for {wanted}; it has {listed(DataType.__members__)}"
    )


def get_num_bytes_of_data_type(dtype: DataType) -> int:
    """Returns the bytes that one element takes.

    Raises
    ------
    InvalidInput
        `dtype` is no DataType.
    """
    if not isinstance(dtype, DataType):
        raise InvalidInput(f"dtype must be a DataType such as DataType.FLOAT32, not {shown(dtype)}")
    return _ext.NUMPY_DTYPES[dtype.name.lower()].itemsize


def precision_of(value: object) -> PrecisionType:
    """Reads a precision that may be a member, or its number.

    Raises
    ------
    InvalidInput
        It is none.
    """
    if isinstance(value, PrecisionType):
        return value
    name = getattr(value, "name", None)  # of Paddle's own enumeration
    if isinstance(name, str) and name in PrecisionType.__members__:
        return PrecisionType[name]
    if is_int(value) and value in PrecisionType._value2member_map_:
        return PrecisionType(value)
    raise InvalidInput(f"a precision is one of {listed(PrecisionType.__members__)}, not {shown(value)}")
