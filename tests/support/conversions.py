"""Converts one input, for tests of the conversion."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import paddleinfer
from paddleinfer import _ext
from paddleinfer.engine.conversion import Converter
from paddleinfer.models.reader import TensorSpec

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {name: np.dtype(BFLOAT16 if name == "bfloat16" else name) for name in _ext.DTYPE_NAMES}
FLOATS = ("float16", "float32", "float64", "bfloat16")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8")


def convert(
    value: Any,
    dtype: str = "float32",
    shape: tuple[int, ...] | None = (-1,),
    *,
    strict: bool = False,
    follow: bool = True,
) -> np.ndarray:
    converter = Converter(
        [TensorSpec("x", None, dtype, shape)], rows_follow_batch=follow, strict_dtypes=strict
    )
    (converted,) = converter({"x": value})
    assert type(converted) is np.ndarray and converted.dtype == DTYPES[dtype]
    assert converted.flags.c_contiguous and converted.flags.aligned and converted.dtype.isnative
    return converted


def refusal(
    value: Any, dtype: str = "float32", shape: tuple[int, ...] | None = (-1,), *, strict: bool = False
) -> str:
    with pytest.raises(paddleinfer.InvalidInput) as caught:
        convert(value, dtype, shape, strict=strict)
    return one_sentence(caught.value, "x")


def one_sentence(error: BaseException, *names: str) -> str:
    text = str(error)
    assert isinstance(error, ValueError)
    assert "\n" not in text and ". " not in text and not text.endswith("."), text
    assert all(repr(name) in text for name in names), text
    return text
