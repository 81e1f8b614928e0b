"""Reads arrays for a model from .npy and .npz files, makes random ones, and writes .npz files."""

from __future__ import annotations

import argparse
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.cli.output import shape_text
from paddleinfer.engine.array_files import read_arrays
from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.models.spec import TensorSpec
from paddleinfer.sentences import shown
from paddleinfer.whole_files import replacing

__all__ = ["Array", "add_input", "add_shapes", "random_inputs", "read_inputs", "write_outputs"]

Array = npt.NDArray[Any]

_SEED = 1
_SIZES = re.compile(r"\d+(x\d+)*")


def read_inputs(given: Sequence[str], wanted: Sequence[TensorSpec]) -> dict[str, Array]:
    """Reads the arrays that ``--input`` names: ``x.npy`` for a sole input, ``NAME=x.npy``, or ``many.npz``.

    Raises
    ------
    InvalidInput
        A file cannot be read or holds no arrays, or the names are not those of the model.
    """
    inputs: dict[str, Array] = {}
    for text in given:
        name, path = _named_file(text, wanted)
        arrays = read_arrays(path, "--input")
        if name is not None or None in arrays:
            arrays = {name or _sole_name(path, wanted): _sole_array(path, arrays)}
        for key, array in arrays.items():
            _put(inputs, str(key), array, path, wanted)
    missing = [spec for spec in wanted if spec.name not in inputs]
    if missing:
        listed = ", ".join(f"{shown(spec.name)} ({spec.dtype}, {shape_text(spec.shape)})" for spec in missing)
        raise InvalidInput(
            f"no array is given for {listed}; give one with --input {missing[0].name}=FILE.npy"
        )
    return inputs


def _named_file(text: str, wanted: Sequence[TensorSpec]) -> tuple[str | None, Path]:
    name, separator, path = text.partition("=")
    # A path may contain an equals sign, so what stands before the first is tried as an input's name first.
    if not separator or (_spec_of(name, wanted) is None and Path(text).exists()):
        return None, Path(text)
    if not path:
        raise InvalidInput(f"--input {text} names no file; write --input NAME=FILE.npy")
    return name, Path(path)


def _sole_name(path: Path, wanted: Sequence[TensorSpec]) -> str:
    if len(wanted) != 1:
        names = ", ".join(spec.name for spec in wanted) or "none"
        raise InvalidInput(
            f"{path} is for one of {len(wanted)} inputs ({names}); write --input NAME={path.name}"
        )
    return wanted[0].name


def _sole_array(path: Path, arrays: Mapping[str | None, Array]) -> Array:
    if len(arrays) != 1:
        raise InvalidInput(
            f"{path} holds {len(arrays)} arrays; give it without a name, as --input {path.name}"
        )
    return next(iter(arrays.values()))


def _put(inputs: dict[str, Array], key: str, array: Array, path: Path, wanted: Sequence[TensorSpec]) -> None:
    spec = _spec_of(key, wanted)
    if spec is None:
        names = ", ".join(repr(spec.name) for spec in wanted) or "no inputs"
        raise InvalidInput(f"the model has no input {shown(key)} for {path}; it has {names}")
    if spec.name in inputs:
        raise InvalidInput(f"the input {shown(key)} is given twice, the second time by {path}")
    inputs[spec.name] = array


def _spec_of(name: str, specs: Sequence[TensorSpec]) -> TensorSpec | None:
    return next((spec for spec in specs if name in (spec.name, spec.alias)), None)


def add_input(parser: argparse._ActionsContainer, what_for: str, *spelled: str) -> None:
    """Adds the option for arrays from files, and further spellings of it."""
    parser.add_argument(
        "--input",
        *spelled,
        dest="input",
        metavar="[NAME=]FILE",
        action="append",
        default=[],
        help="an .npy file, or an .npz file with an array for each input; may be given several times; "
        + what_for,
    )


def add_shapes(parser: argparse._ActionsContainer) -> None:
    """Adds the option for sizes that the model leaves free."""
    parser.add_argument(
        "--shape",
        metavar="NAME=SIZES",
        action="append",
        default=[],
        help="the whole shape of an input, as image=1x3x224x224; needed where sizes beyond the rows are free",
    )


def random_inputs(
    wanted: Sequence[TensorSpec], shapes: Sequence[str], rows: int | None = None
) -> dict[str, Array]:
    """Makes normal numbers for floats, and 0 and 1 for integers, which are also valid as indices.

    Parameters
    ----------
    shapes
        Texts such as ``NAME=1x3x224x224``.
    rows
        The first size, if the model leaves it free; None: the one in `shapes`, else 1.

    Raises
    ------
    ConfigError
        A shape does not fit the model, or one is needed.
    """
    given = dict(_parsed(text, wanted) for text in shapes)
    random = np.random.default_rng(_SEED)
    inputs: dict[str, Array] = {}
    for spec in wanted:
        shape = _shape(spec, given.get(spec.name), rows)
        dtype = _ext.NUMPY_DTYPES[spec.dtype]
        floats = spec.dtype.startswith(("float", "bfloat"))
        try:
            made = random.standard_normal(shape) if floats else random.integers(0, 2, shape)
            inputs[spec.name] = made.astype(dtype)
        except (MemoryError, ValueError):
            raise ConfigError(
                f"an input {shown(spec.name)} of {shape_text(shape)} does not fit into memory; "
                "make it smaller with --shape or --rows"
            ) from None
    return inputs


def _parsed(text: str, wanted: Sequence[TensorSpec]) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    if not name or not _SIZES.fullmatch(sizes):
        raise ConfigError(f"--shape must be like image=1x3x224x224, not {text}")
    spec = _spec_of(name, wanted)
    if spec is None:
        names = ", ".join(repr(spec.name) for spec in wanted) or "no inputs"
        raise ConfigError(f"--shape names the input {shown(name)}, but the model has {names}")
    shape = tuple(map(int, sizes.split("x")))
    declared = spec.shape
    if declared is not None and (
        len(shape) != len(declared)
        or any(size not in (own, -1) for own, size in zip(shape, declared, strict=True))
    ):
        raise ConfigError(
            f"--shape {text} does not fit: the input {shown(spec.name)} is {shape_text(declared)}, "
            "where -1 is any size"
        )
    return spec.name, shape


def _shape(spec: TensorSpec, given: tuple[int, ...] | None, rows: int | None) -> tuple[int, ...]:
    declared = spec.shape
    if given is None and (declared is None or any(size < 0 for size in declared[1:])):
        raise ConfigError(
            f"the input {shown(spec.name)} has free sizes beyond its rows ({shape_text(declared)}); "
            f"give them with --shape {spec.name}={_example(declared)}"
        )
    shape = list(given if given is not None else declared or ())
    free = declared is None or declared[:1] == (-1,)
    if shape and free and (rows is not None or shape[0] < 0):
        shape[0] = rows or 1
    elif rows is not None and shape and shape[0] != rows:
        raise ConfigError(
            f"the input {shown(spec.name)} always has {shape[0]} rows, so --rows cannot be {rows}"
        )
    return tuple(shape)


def _example(declared: Sequence[int] | None) -> str:
    if declared is None:
        return "1x3x224x224"
    likely = (1, *(224 for _ in declared[1:]))
    return shape_text([size if own < 0 else own for own, size in zip(declared, likely, strict=True)])


def write_outputs(path: Path, outputs: Mapping[str, Array]) -> None:
    """Writes an .npz file; numpy.savez would refuse an output that is called "file"."""
    with replacing(path) as whole, zipfile.ZipFile(whole, "w") as archive:
        for name, array in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
