"""What a model is to the rest of paddleinfer: its files, tensors and parameters, without Paddle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["DTYPES", "ModelSpec", "Parameter", "Program", "TensorSpec"]

DTYPES = (
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "bool",
)
"""The dtypes that an input or an output may have."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model."""

    name: str
    """Paddle's own name, as its predictor reports it."""
    alias: str | None
    """Another name that callers may use (Paddle Serving); None when absent or equal to the name."""
    dtype: str
    """One of DTYPES."""
    shape: tuple[int, ...] | None
    """-1 where a dimension is dynamic; None when the file does not say."""


@dataclass(frozen=True)
class ModelSpec:
    """A model as its files describe it."""

    path: Path
    """What the caller gave."""
    format: str
    """"json" (Paddle 3), "pdmodel" or "__model__" (the legacy program, by its file's name), "callable"."""
    program_path: Path | None
    """The program file."""
    params_path: Path | None
    """The combined parameter file; None without parameters, or with one file per parameter."""
    model_dir: Path | None
    """Set only when every parameter has a file of its own beside ``__model__``."""
    inputs: tuple[TensorSpec, ...]
    """In the order of Paddle's ``get_input_names()``."""
    outputs: tuple[TensorSpec, ...]
    """In the order of Paddle's ``get_output_names()``."""
    parameters: tuple[str, ...]
    """Names of the parameters that Paddle loads, in the order of the combined file."""
    batchable: str
    """Whether rows of several requests may share a run: "yes", "no" or "unknown"."""
    batchable_reason: str
    """Why, in one sentence."""


@dataclass(frozen=True)
class Parameter:
    """A persistable parameter that a program declares."""

    name: str
    shape: tuple[int, ...] | None
    """None when it is not a dense tensor, so that its bytes cannot be checked."""


@dataclass(frozen=True)
class Program:
    """What one program file says, before any check; dtypes may still be unsupported ones."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: tuple[Parameter, ...]
    """Sorted by name: the order in which Paddle reads the combined file."""
    lod_inputs: tuple[str, ...] = ()
    """Inputs whose rows belong to sequences (legacy level-of-detail tensors)."""
