"""Paddle Serving's feeds and fetches -> what an engine is asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer.errors import InvalidInput
from paddleinfer.models.reader import TensorSpec
from paddleinfer.sentences import listed, shown

__all__ = ["engine_inputs", "wanted_names"]

Array = npt.NDArray[Any]

_LOD = ".lod"
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def engine_inputs(feed: object, inputs: Sequence[TensorSpec], *, batch: bool) -> dict[str, Array]:
    """The arrays of a feed, by the model's own names; the caller's feed stays as it is.

    Parameters
    ----------
    feed
        Name or alias -> array or nested list; or a list of such dicts, whose rows follow one another.
    inputs
        What the model takes.
    batch
        Whether the arrays have their batch axis. Without it each gets one, of one row.

    Raises
    ------
    InvalidInput
        The feed is no dict, or a value no rectangular array.
    """
    samples: Sequence[object] = feed if isinstance(feed, (list, tuple)) else [feed]
    dicts = [sample for sample in samples if isinstance(sample, Mapping)]
    if not dicts or len(dicts) < len(samples):
        raise InvalidInput(
            f"feed must be a dict of arrays by the inputs' names, or a list of such dicts, not {shown(feed)}"
        )
    by_name = {name: tensor for tensor in inputs for name in (tensor.name, tensor.alias) if name is not None}
    arrays = [dict(_arrays(sample, by_name, batch)) for sample in dicts]
    if len(arrays) == 1:
        return arrays[0]
    return {name: _joined(name, arrays) for name in arrays[0]}


def wanted_names(fetch: object, outputs: Sequence[TensorSpec]) -> list[str]:
    """The outputs to fetch: as they were asked for, or all of them by their aliases.

    Raises
    ------
    InvalidInput
        `fetch` is neither None, a name, nor a list of names.
    """
    names = [fetch] if isinstance(fetch, str) else [] if fetch is None else fetch
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise InvalidInput(f"fetch must be a name or a list of names, not {shown(fetch)}")
    return list(names) or [tensor.alias or tensor.name for tensor in outputs]


def _arrays(
    sample: Mapping[object, object], by_name: Mapping[str, TensorSpec], batch: bool
) -> Iterator[tuple[str, Array]]:
    names = set()
    for name, value in sample.items():
        tensor = by_name.get(name) if isinstance(name, str) else None
        if tensor is None:
            if isinstance(name, str) and name.endswith(_LOD) and name.removesuffix(_LOD) in by_name:
                raise InvalidInput(
                    f"{shown(name)} gives the lengths of sequences (LoD), which Paddle 3's models do not "
                    "take; feed padded rows, and their lengths or a mask as an input of the model"
                )
            raise InvalidInput(f"there is no input {shown(name)}; the model takes {listed(by_name)}")
        if tensor.name in names:
            raise InvalidInput(
                f"the feed has input {tensor.name!r} by its name and by its alias; give it once"
            )
        names.add(tensor.name)
        yield tensor.name, _array(value, tensor, batch)


def _array(value: object, tensor: TensorSpec, batch: bool) -> Array:
    try:
        array = np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:  # an object's __array__ may raise anything
        raise InvalidInput(
            f"input {tensor.name!r} takes a rectangular list of numbers, and not {shown(value)}"
        ) from error
    row = () if tensor.shape is None else tensor.shape[1:]
    size = math.prod(row)
    # Paddle Serving's lists are flat as often as nested.
    if not isinstance(value, np.ndarray) and row and min(row) > 0:
        if batch and array.ndim == 1 and array.size % size == 0:
            array = array.reshape(-1, *row)
        elif not batch and array.size == size:
            array = array.reshape(row)
    if isinstance(value, np.ndarray):
        array = _without_unit_axes(array, row, batch)
    if array.dtype.kind in "biu" and tensor.dtype in _FLOATS:
        array = array.astype("float64" if tensor.dtype == "float64" else "float32")
    return array if batch else array[np.newaxis]


def _without_unit_axes(array: Array, row: tuple[int, ...], batch: bool) -> Array:
    """In the model's shape, where it differs in axes of one element alone: operators once flattened."""
    begins = array.shape[:1] if batch else ()
    given = array.shape[len(begins) :]
    if given == row or [dim for dim in given if dim != 1] != [dim for dim in row if dim != 1]:
        return array
    return array.reshape(*begins, *row)


def _joined(name: str, samples: Sequence[Mapping[str, Array]]) -> Array:
    try:
        return np.concatenate([sample[name] for sample in samples])
    except KeyError:
        raise InvalidInput(f"not every dict of the feed has input {name!r}") from None
    except ValueError as error:
        raise InvalidInput(
            f"the rows of input {name!r} in the list of feeds differ in shape: {error}"
        ) from None
