"""Describes a model for the rest of paddleinfer, without Paddle: its files, tensors and parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from paddleinfer.models.file_states import FileState
from paddleinfer.models.graph import Graph

__all__ = [
    "DTYPES",
    "MOST_DIMENSIONS",
    "MOST_OPERATORS",
    "Batchable",
    "ModelFormat",
    "ModelSpec",
    "Parameter",
    "Program",
    "TensorSpec",
]

MOST_DIMENSIONS = 64
"""The most dimensions of a tensor in a program; Paddle's own tensors have nine at most."""
MOST_OPERATORS = 65_536
"""The most operators of a program; a language model of a hundred layers has about ten thousand."""

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


class ModelFormat(str, Enum):
    """The form of a model's program."""

    JSON = "json"
    """Paddle 3's ``.json`` (PIR)."""
    PDMODEL = "pdmodel"
    """The legacy program in a ``.pdmodel`` file."""
    DUNDER_MODEL = "__model__"
    """The legacy program under its oldest name."""
    ONNX = "onnx"
    """An ONNX model in one file, which Paddle does not run."""
    CALLABLE = "callable"
    """A Python function."""

    @property
    def is_legacy(self) -> bool:
        """Whether it is a legacy program (ProgramDesc), under either name."""
        return self in (ModelFormat.PDMODEL, ModelFormat.DUNDER_MODEL)

    def __str__(self) -> str:
        return self.value


class Batchable(str, Enum):
    """Whether rows of several requests may share a run."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    """The first batches decide: they are compared with what their rows give alone."""

    def __str__(self) -> str:
        return self.value


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
    """The sizes, -1 for a dynamic one; None if the file does not give them."""


@dataclass(frozen=True)
class ModelSpec:
    """A model as its files describe it."""

    path: Path
    """The path that the caller gave."""
    format: ModelFormat
    """How its files are laid out."""
    program_path: Path | None
    """The program file."""
    params_path: Path | None
    """The combined parameter file; None without parameters, or with one file per parameter."""
    model_dir: Path | None
    """The directory, if every parameter has a file of its own beside ``__model__``; else None."""
    inputs: tuple[TensorSpec, ...]
    """The inputs, in the order of Paddle's ``get_input_names()``."""
    outputs: tuple[TensorSpec, ...]
    """The outputs, in the order of Paddle's ``get_output_names()``."""
    parameters: tuple[str, ...]
    """Names of the parameters that Paddle loads, in the order of the combined file."""
    batchable: Batchable
    """Whether rows of several requests may share a run."""
    batchable_reason: str
    """The reason for `batchable`, in one sentence."""
    operators_forbid: bool = False
    """Whether a "no" comes from the program's operators; ``batchable=True`` overrules those."""
    plain_integers: tuple[str, ...] = ()
    """Inputs of int32 and int64 that only arithmetic uses, where some output is of these, too."""
    files: tuple[FileState, ...] = field(default=(), compare=False, repr=False)
    """The states of its files when they were read."""


@dataclass(frozen=True)
class Parameter:
    """A persistable parameter that a program declares."""

    name: str
    shape: tuple[int, ...] | None
    """None if it is not a dense tensor; then its bytes cannot be checked."""


@dataclass(frozen=True)
class Program:
    """The contents of one program file, before any check; its dtypes may be unsupported."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: tuple[Parameter, ...]
    """The parameters, sorted by name: the order in which Paddle reads the combined file."""
    graph: Callable[[], Graph]
    """Reads its operators."""
    lod_inputs: tuple[str, ...] = ()
    """Inputs whose rows belong to sequences (legacy level-of-detail tensors)."""
