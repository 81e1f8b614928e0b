"""The tensors that a service declares: how they are described, and what fits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.models.spec import DTYPES, TensorSpec
from paddleinfer.sentences import listed, shown
from paddleinfer.serve.answer import Answer

__all__ = ["BYTES", "Declared", "arrays_of", "check_inputs", "declared"]

BYTES: Final = "bytes"
"""The dtype of texts, files and whatever else is bytes: an array of objects, each ``bytes``."""

Array = npt.NDArray[Any]
Declared = Mapping[str, tuple[str, Sequence[int]]]
"""Name -> (dtype, shape): ``{"image": ("bytes", (1,))}``; -1 is a free dimension."""


def declared(tensors: Declared, what: str) -> tuple[TensorSpec, ...]:
    """What a service says of its inputs or outputs.

    Raises
    ------
    ConfigError
        It is not understood.
    """
    wanted = f'{what} must be {{"name": (dtype, shape)}}'
    if not isinstance(tensors, Mapping) or not tensors:
        raise ConfigError(f"{wanted}, not {shown(tensors)}")
    specs = []
    for name, described in tensors.items():
        if not (isinstance(name, str) and name and isinstance(described, tuple) and len(described) == 2):
            raise ConfigError(f"{wanted}, and {shown(name)} is {shown(described)}")
        dtype, shape = described
        if dtype != BYTES and dtype not in DTYPES:
            raise ConfigError(
                f"the dtype of {name!r} in {what} must be {BYTES!r} or one of {listed(DTYPES)}, "
                f"not {shown(dtype)}"
            )
        sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (None,)
        if not all(isinstance(size, int) and not isinstance(size, bool) and size >= -1 for size in sizes):
            raise ConfigError(
                f"the shape of {name!r} in {what} must be integers from 0 up, and -1 for any, "
                f"not {shown(shape)}"
            )
        specs.append(TensorSpec(name, None, dtype, sizes))
    return tuple(specs)


def _dtype(spec: TensorSpec) -> np.dtype[Any]:
    if spec.dtype == BYTES:
        return np.dtype(object)
    return np.dtype(ml_dtypes.bfloat16 if spec.dtype == "bfloat16" else spec.dtype)


def _fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    sizes = spec.shape or ()
    return len(shape) == len(sizes) and all(
        size in (-1, found) for size, found in zip(sizes, shape, strict=True)
    )


def check_inputs(specs: Sequence[TensorSpec], given: Mapping[str, Array]) -> None:
    """InvalidInput where a client's tensors are not those that the service declares."""
    for spec in specs:
        array = given.get(spec.name)
        if array is None:
            raise InvalidInput(
                f"input {spec.name!r} is missing; the service has {listed(one.name for one in specs)}"
            )
        if array.dtype != _dtype(spec):
            found = BYTES if array.dtype.kind == "O" else array.dtype.name
            raise InvalidInput(f"input {spec.name!r} must be {spec.dtype}, not {found}")
        if not _fits(array.shape, spec):
            raise InvalidInput(
                f"input {spec.name!r} has the shape {list(array.shape)}, "
                f"which does not fit {list(spec.shape or ())}"
            )
    known = {spec.name for spec in specs}
    for name in given:
        if name not in known:
            raise InvalidInput(f"there is no input {shown(name)}; the service has {listed(known)}")


def arrays_of(specs: Sequence[TensorSpec], answer: Any) -> dict[str, Array]:
    """A service's answer as the tensors that it declares.

    Raises
    ------
    TypeError, ValueError
        It is none, which is the service's fault.
    """
    value = answer.value if isinstance(answer, Answer) else answer
    if not isinstance(value, Mapping):
        if len(specs) != 1:
            raise TypeError(f"the answer must be a dict of {listed(spec.name for spec in specs)}")
        value = {specs[0].name: value}
    return {spec.name: _array_of(spec, value) for spec in specs}


def _array_of(spec: TensorSpec, value: Mapping[str, Any]) -> Array:
    if spec.name not in value:
        raise ValueError(f"the answer has no {spec.name!r}, which outputs declares")
    given = value[spec.name]
    array = _bytes_of(spec, given) if spec.dtype == BYTES else np.asarray(given, _dtype(spec))
    sizes = spec.shape or ()
    if array.ndim == 0 and len(sizes) > 0:
        array = array.reshape((1,) * len(sizes))
    if not _fits(array.shape, spec):
        raise ValueError(f"{spec.name!r} has the shape {list(array.shape)}, which does not fit {list(sizes)}")
    return array if spec.dtype == BYTES else np.ascontiguousarray(array)


def _bytes_of(spec: TensorSpec, given: Any) -> Array:
    if isinstance(given, (bytes, str)):
        array = np.empty((), object)
        array[()] = given
    else:
        array = np.array(given, object)
    for place, element in enumerate(array.flat):
        if isinstance(element, str):
            array.flat[place] = element.encode()
        elif not isinstance(element, bytes):
            raise TypeError(
                f"{spec.name!r} is declared as bytes, and holds {type(element).__name__}: give bytes or str"
            )
    return array
