"""Arrays as text: nested lists in JSON."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

__all__ = ["array_text"]

# This many numbers are written in one call.
_PIECE_ELEMENTS: Final = 1 << 16


def array_text(array: npt.NDArray[Any]) -> bytes:
    """Nested lists in JSON, written in pieces between which others may use the interpreter.

    NaN and infinities are null.
    """
    if array.dtype.name in ("float16", "bfloat16"):
        array = array.astype(np.float32)
    if array.ndim == 0:
        return orjson.dumps(array.item())
    array = np.ascontiguousarray(array)
    if array.size <= _PIECE_ELEMENTS:
        return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    if array.ndim > 1 and array[0].size > _PIECE_ELEMENTS:
        return b"[" + b",".join(array_text(part) for part in array) + b"]"
    rows = max(1, _PIECE_ELEMENTS // max(1, array[0].size))
    parts = [array[begin : begin + rows] for begin in range(0, len(array), rows)]
    return (
        b"[" + b",".join(orjson.dumps(part, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] for part in parts) + b"]"
    )
