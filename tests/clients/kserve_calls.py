"""Requests for the tests' models as KServe's clients make them."""

from __future__ import annotations

from typing import Any

import numpy as np
from kserve import InferInput, InferRequest

FIRST = np.arange(16, dtype="int32").reshape(1, 16)
SECOND = np.full((1, 16), 3, "int32")
# KServe's own types have no BF16.
DATATYPES = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}


def tensor(name: str, array: np.ndarray, datatype: str, *, binary: bool) -> InferInput:
    given = InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def simple(*, binary: bool = False, **options: Any) -> InferRequest:
    inputs = [
        tensor("INPUT0", FIRST, "INT32", binary=binary),
        tensor("INPUT1", SECOND, "INT32", binary=binary),
    ]
    return InferRequest("simple", inputs, **options)
