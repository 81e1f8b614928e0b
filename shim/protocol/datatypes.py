"""Maps names of datatypes in the Open Inference Protocol to the arrays they stand for."""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np

__all__ = ["DATATYPES", "DATATYPE_OF", "DTYPE_OF", "config_type", "datatype_of"]

DATATYPES: Final[dict[str, str]] = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "BF16",
}
"""Model dtype -> datatype. The protocol's BYTES is missing, because only services take bytes."""

DTYPE_OF: Final[dict[str, np.dtype[Any]]] = {
    datatype: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    for name, datatype in DATATYPES.items()
}
"""Datatype -> dtype; it is little-endian, like the protocol's binary form and these machines."""

DATATYPE_OF: Final[dict[np.dtype[Any], str]] = {dtype: datatype for datatype, dtype in DTYPE_OF.items()}
"""Array dtype -> datatype. A lookup by ``dtype.name`` would take longer than writing a row as JSON."""


def datatype_of(dtype: str) -> str:
    """Returns "FP32" for "float32"; "UNKNOWN" for an output of a callable that declares no dtype."""
    return "BYTES" if dtype == "bytes" else DATATYPES.get(dtype, "UNKNOWN")


def config_type(dtype: str) -> str:
    """Returns Triton's spelling in model configurations: "TYPE_FP32" for "float32"."""
    return "TYPE_STRING" if dtype == "bytes" else f"TYPE_{DATATYPES.get(dtype, 'INVALID')}"
