"""Turns Paddle's own tensors into arrays and back, without importing Paddle for those who have none."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.backends.paddle.installed import import_paddle

__all__ = ["array_of", "is_tensor", "tensor_of"]


def is_tensor(value: object) -> bool:
    """Tells whether a value is a tensor of Paddle's that has data: paddle.Tensor, or a C++ DenseTensor."""
    paddle = sys.modules.get("paddle")
    if paddle is None or not hasattr(paddle, "Tensor"):
        return False
    core = paddle.base.core
    # Paddle 2.6 has the latter under its former name.
    kinds = (paddle.Tensor, getattr(core, "DenseTensor", None) or core.LoDTensor)
    return isinstance(value, kinds)


def array_of(tensor: Any) -> npt.NDArray[Any]:
    """Returns a tensor's data as an array; bfloat16 becomes uint16, as everywhere in Paddle."""
    return np.asarray(tensor.numpy() if hasattr(tensor, "numpy") else tensor)


def tensor_of(array: npt.NDArray[Any]) -> Any:
    """Returns a paddle.Tensor on the CPU with a copy of an array."""
    paddle = import_paddle()
    if array.dtype == _ext.NUMPY_DTYPES["bfloat16"]:
        array = array.view(np.uint16)
    return paddle.to_tensor(array, place=paddle.CPUPlace())
