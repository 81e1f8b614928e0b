"""The inputs that ``verify`` runs a model on: made up like real ones, or given."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.config import PadAxis
from paddleinfer.engine.agreement import has_free_rows, shapes_text
from paddleinfer.engine.loaded import Loaded
from paddleinfer.engine.made_up_inputs import made_up
from paddleinfer.engine.padding import Padding, padded_inputs, target_of
from paddleinfer.engine.warmup import varied
from paddleinfer.errors import InvalidInput

__all__ = ["Case", "given_cases", "made_up_cases", "padded_length"]

Array = npt.NDArray[Any]
Row = list[Array]
Shapes = list[tuple[int, ...]]

_ROWS = 3


@dataclass(frozen=True)
class Case:
    """Requests of equal shapes, which may share a run."""

    rows: list[Row]
    """For each request its inputs, in the model's order; only one where requests never share a run."""
    names: list[str]
    """What each is, in words."""
    about: str
    """What they are together, in words."""

    @property
    def together(self) -> Row:
        """The inputs of all requests in one."""
        return [np.concatenate(arrays, axis=0) for arrays in zip(*self.rows, strict=True)]

    @property
    def back_to_front(self) -> Case:
        """The same requests in reversed order."""
        return Case(self.rows[::-1], self.names[::-1], self.about)


def made_up_cases(loaded: Loaded, padding: Padding | None, merges: bool) -> list[Case]:
    """Makes rows of the least and of the usual sizes, of lengths that are padded where there is padding.

    Parameters
    ----------
    merges
        Whether requests may share a run.

    Raises
    ------
    InvalidInput
        Sizes are free that nothing gives, or a row has more bytes than a request may have.
    """
    most_bytes = loaded.config.batching.max_queue_bytes
    cases: list[Case] = []
    found: list[Shapes] = []
    for least in (True, False):
        shapes = _not_yet_padded(loaded, loaded.examples.shapes(least=least), padding)
        row_bytes = sum(
            math.prod(shape) * _ext.NUMPY_DTYPES[tensor.dtype].itemsize
            for tensor, shape in zip(loaded.spec.inputs, shapes, strict=True)
        )
        if shapes in found or row_bytes > most_bytes:
            continue
        found.append(shapes)
        rows = _rows(loaded, most_bytes // max(row_bytes, 1)) if merges else 1
        whole = [
            (rows, *shape[1:]) if shape and has_free_rows(tensor) else shape
            for tensor, shape in zip(loaded.spec.inputs, shapes, strict=True)
        ]
        arrays = made_up(loaded.spec.inputs, whole)
        if padding is not None:
            arrays = _with_real_lengths(loaded, padding, arrays)
        about = f"made-up inputs {shapes_text(whole)}"
        names = _names(rows, about) if merges else [about]
        cases.append(Case(_apart(arrays, rows), names, about))
    if not cases:
        raise InvalidInput(
            "one made-up row has more bytes than max_queue_bytes allows; give smaller sizes with "
            "example_shapes, or inputs"
        )
    return cases


def given_cases(
    loaded: Loaded, padding: Padding | None, merges: bool, inputs: Mapping[str, Any]
) -> list[Case]:
    """Puts the rows of given inputs into batches; a lone row gets neighbours made of it.

    Raises
    ------
    InvalidInput
        The inputs do not fit the model, or have no rows.
    """
    arrays = loaded.converter(inputs) if padding is None else list(padding.arrays(inputs).values())
    given = f"the given inputs {shapes_text([array.shape for array in arrays])}"
    if not merges:
        return [Case([arrays], [given], given)]
    counts = {len(array) for array in arrays}
    if counts == {0}:
        raise InvalidInput("the given inputs have no rows, so there is nothing to compare")
    if len(counts) > 1:
        listed = ", ".join(
            f"{tensor.name!r} has {len(array)}"
            for tensor, array in zip(loaded.spec.inputs, arrays, strict=True)
        )
        raise InvalidInput(f"the given inputs must have equally many rows, and {listed}")
    (count,) = counts
    if count == 1:
        rows = _rows(loaded, _ROWS)
        arrays = [varied(array, rows) for array in arrays]
        about = f"the given row and neighbours made of it, {shapes_text([array.shape for array in arrays])}"
        return [Case(_apart(arrays, rows), _names(rows, about), about)]
    most = loaded.config.batching.most_rows
    cases = []
    for first in range(0, count, most):
        part = [array[first : first + most] for array in arrays]
        rows = len(part[0])
        about = f"rows {first + 1} to {first + rows} of {given}" if rows < count else given
        cases.append(Case(_apart(part, rows), _names(rows, given, first), about))
    return cases


def _rows(loaded: Loaded, most: int) -> int:
    return max(1, min(_ROWS, loaded.config.batching.most_rows, most))


def _names(rows: int, about: str, first: int = 0) -> list[str]:
    return [f"row {first + place + 1} of {about}" for place in range(rows)]


def _apart(arrays: Sequence[Array], rows: int) -> list[Row]:
    if rows == 1:
        return [list(arrays)]
    return [[array[place : place + 1] for array in arrays] for place in range(rows)]


def _not_yet_padded(loaded: Loaded, shapes: Shapes, padding: Padding | None) -> Shapes:
    """Changes the lengths of padded axes to some that get much padding."""
    changed = {tensor.name: list(shape) for tensor, shape in zip(loaded.spec.inputs, shapes, strict=True)}
    for pad in () if padding is None else padding.axes:
        name, axis = next(iter(pad.inputs.items()))
        length = padded_length(pad, changed[name][axis])
        for name, axis in padded_inputs(pad):
            changed[name][axis] = length
    return [tuple(shape) for shape in changed.values()]


def padded_length(pad: PadAxis, usual: int) -> int:
    """Returns the length near the usual one that gets the most padding; the usual one where none is."""
    if pad.sizes:
        place = next((n for n, size in enumerate(pad.sizes) if size >= usual), len(pad.sizes) - 1)
        target, before = pad.sizes[place], pad.sizes[place - 1] if place else 0
    else:
        target = math.ceil(max(usual, 1) / pad.multiple) * pad.multiple
        before = target - pad.multiple
    # A model need not take next to nothing, so of the least target half is data.
    least = before + 1 if before else max(target // 2, 1)
    least = max(least, math.ceil(target * (1 - pad.max_waste)))
    return least if target_of(pad, least) > least else usual


def _with_real_lengths(loaded: Loaded, padding: Padding, arrays: Sequence[Array]) -> Row:
    """Has masks and lengths say that all of each row is data."""
    made = {name for pad in padding.axes for name in (pad.mask, pad.lengths) if name is not None}
    kept = {
        tensor.name: array
        for tensor, array in zip(loaded.spec.inputs, arrays, strict=True)
        if tensor.name not in made
    }
    return list(padding.arrays(kept).values())
