"""Converts what callers pass to arrays the model takes, or raises one sentence that says what is wrong.

The core itself takes plain arrays of the right kind; this module converts everything else. Conversion depends
on types, never on values: what is refused once is always refused, except that integers are range-checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.ma import (
    MaskedArray,
)  # imported here, because np.ma would import it at first use, in the middle of a request

from paddleinfer import _ext
from paddleinfer.backends.paddle.empty_inputs import EmptyInputs
from paddleinfer.errors import InvalidInput
from paddleinfer.models.reader import TensorSpec
from paddleinfer.sentences import listed, shown

__all__ = ["Converter"]

Array = npt.NDArray[Any]

_BFLOAT16 = _ext.NUMPY_DTYPES["bfloat16"]
_MAX_RANK = 9
_MAX_DIM = 2**31 - 1


class Converter:
    """Turns a caller's inputs into the list of arrays the core runs.

    Parameters
    ----------
    tensors
        The model's inputs, in the core's order.
    rows_follow_batch
        Whether axis 0 of every input counts the same rows.
    strict_dtypes
        Whether every conversion of a dtype is refused.
    empty_inputs
        The inputs without elements that would end the process; None if none would.
    """

    def __init__(
        self,
        tensors: Sequence[TensorSpec],
        *,
        rows_follow_batch: bool,
        strict_dtypes: bool,
        empty_inputs: EmptyInputs | None = None,
    ) -> None:
        self._tensors = tuple(tensors)
        self._rows_follow_batch = rows_follow_batch
        self._strict = strict_dtypes
        self._empty_inputs = empty_inputs
        self._places = {tensor.name: place for place, tensor in enumerate(self._tensors)}
        self._places.update({t.alias: place for place, t in enumerate(self._tensors) if t.alias is not None})

    def __call__(self, feeds: object) -> list[Array]:
        """Returns C-contiguous arrays of the model's dtypes, in the model's order.

        Raises
        ------
        InvalidInput
            The inputs do not fit; nothing was queued.
        """
        values = self._in_order(feeds)
        arrays = [
            self._shaped(self._typed(value, tensor), tensor)
            for value, tensor in zip(values, self._tensors, strict=True)
        ]
        if self._rows_follow_batch:
            self._check_rows(arrays)
        if self._empty_inputs is not None:
            self._check_empty(arrays, self._empty_inputs)
        return arrays

    def _in_order(self, feeds: object) -> list[object]:
        if isinstance(feeds, Mapping):
            return self._by_name(feeds)
        names = ", ".join(tensor.name for tensor in self._tensors)
        if isinstance(feeds, (list, tuple)):
            if len(feeds) != len(self._tensors):
                raise InvalidInput(
                    f"the list has {len(feeds)} inputs, the model takes {len(self._tensors)}: {names}"
                )
            return list(feeds)
        if feeds is None or isinstance(feeds, (str, bytes)):
            raise InvalidInput(
                f"inputs must be a dict of arrays, a list in order, or one array, not {shown(feeds)}"
            )
        if len(self._tensors) != 1:
            raise InvalidInput(
                f"one array was given, but the model takes {len(self._tensors)} inputs: {names}; pass a dict"
            )
        return [feeds]

    def _by_name(self, feeds: Mapping[Any, object]) -> list[object]:
        given: dict[int, tuple[object, object]] = {}
        for name, value in feeds.items():
            place = self._places.get(name) if isinstance(name, str) else None
            if place is None:
                known = listed(self._places)
                raise InvalidInput(f"there is no input {shown(name)}; the model takes {known}")
            if place in given:
                raise InvalidInput(f"{given[place][0]!r} and {name!r} are the same input; give it once")
            given[place] = (name, value)
        missing = [tensor.name for place, tensor in enumerate(self._tensors) if place not in given]
        if missing:
            raise InvalidInput(f"missing input {', '.join(map(repr, missing))}")
        return [given[place][1] for place in range(len(self._tensors))]

    # dtypes

    def _typed(self, value: object, tensor: TensorSpec) -> Array:
        wanted = _ext.NUMPY_DTYPES[tensor.dtype]
        if isinstance(value, MaskedArray):
            raise InvalidInput(f"input {tensor.name!r} is a masked array; fill it first")
        if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__array__"):
            array = self._as_array(value, tensor)
            if array.dtype != wanted:
                array = self._converted(array, wanted, tensor)
        else:
            array = self._from_python(value, wanted, tensor)
        # This also makes the byte order native and drops ndarray's subclasses.
        return np.require(array, wanted, ["C", "A"])

    def _from_python(self, value: object, wanted: np.dtype[Any], tensor: TensorSpec) -> Array:
        array = self._as_array(value, tensor)
        if array.dtype.kind not in "biuf" or array.dtype == object:
            kind = (
                "integers beyond 64 bits"
                if _holds_big_integers(value)
                else f"{type(value).__name__} of {array.dtype}"
            )
            raise InvalidInput(f"input {tensor.name!r} takes {tensor.dtype}, not {kind}")
        if self._strict:
            raise InvalidInput(
                f"input {tensor.name!r} is a {type(value).__name__}; with strict_dtypes it must be an array "
                f"of {tensor.dtype}"
            )
        if array.size == 0:
            return array.astype(wanted)
        if wanted == np.bool_ and array.dtype != np.bool_:
            raise self._refusal(array, tensor)
        if wanted.kind in "iu" and array.dtype.kind == "f":
            raise InvalidInput(f"input {tensor.name!r} takes {tensor.dtype}, and floats were given")
        return self._cast(array, wanted, tensor)

    def _as_array(self, value: object, tensor: TensorSpec) -> Array:
        try:
            return np.asarray(value)
        except MemoryError:
            raise
        except Exception as error:  # an object's __array__ may raise anything
            raise InvalidInput(f"input {tensor.name!r} is not a rectangular array of numbers") from error

    def _converted(self, array: Array, wanted: np.dtype[Any], tensor: TensorSpec) -> Array:
        if wanted == _BFLOAT16 and array.dtype == np.uint16:
            return array.view(_BFLOAT16)  # Paddle itself passes bfloat16 to NumPy like this
        swapped = array.dtype.newbyteorder("=") == wanted
        if self._strict and not swapped:
            raise InvalidInput(
                f"input {tensor.name!r} takes {tensor.dtype}, not {array.dtype}; strict_dtypes converts "
                "nothing"
            )
        if not swapped and _kind(array.dtype) != _kind(wanted) and array.dtype != np.bool_:
            raise self._refusal(array, tensor)
        return self._cast(array, wanted, tensor)

    def _refusal(self, array: Array, tensor: TensorSpec) -> InvalidInput:
        hint = f"; convert it with .astype({tensor.dtype!r})" if array.dtype.kind in "biuf" else ""
        return InvalidInput(f"input {tensor.name!r} takes {tensor.dtype}, not {array.dtype}{hint}")

    def _cast(self, array: Array, wanted: np.dtype[Any], tensor: TensorSpec) -> Array:
        if wanted.kind in "iu" and array.dtype.kind in "iu" and array.size > 0:
            low, high = int(array.min()), int(array.max())
            limits = np.iinfo(wanted)
            if low < limits.min or high > limits.max:
                found = low if low < limits.min else high
                raise InvalidInput(f"input {tensor.name!r} holds {found}, which {tensor.dtype} cannot")
        with np.errstate(over="ignore"):  # a float too large becomes infinite, as everywhere in NumPy
            return array.astype(wanted)

    # shapes

    def _shaped(self, array: Array, tensor: TensorSpec) -> Array:
        shape = array.shape
        if len(shape) > _MAX_RANK or any(size > _MAX_DIM for size in shape):
            raise InvalidInput(f"input {tensor.name!r} has shape {shape}, larger than Paddle takes")
        if shape and shape[0] == 0 and self._rows_follow_batch:
            raise InvalidInput(f"input {tensor.name!r} has shape {shape}: no rows")
        declared = tensor.shape
        if declared is None:
            if self._rows_follow_batch and not shape:
                raise InvalidInput(f"input {tensor.name!r} is a scalar; it needs a batch axis")
            return array
        if len(shape) != len(declared):
            hint = ""
            if len(shape) == len(declared) - 1 and _fits(shape, declared[1:]) and declared[0] in (-1, 1):
                hint = "; for one row pass x[None]"
            raise InvalidInput(
                f"input {tensor.name!r} has {len(shape)} dimensions {shape}, the model takes "
                f"{len(declared)} {_shown(declared)}{hint}"
            )
        for axis, (size, fixed) in enumerate(zip(shape, declared, strict=True)):
            if fixed not in (-1, size):
                raise InvalidInput(
                    f"input {tensor.name!r} has shape {shape}, the model takes {_shown(declared)}: "
                    f"dimension {axis} must be {fixed}"
                )
        return array

    def _check_rows(self, arrays: Sequence[Array]) -> None:
        rows = {array.shape[0] for array in arrays}
        if len(rows) > 1:
            listed = ", ".join(
                f"{tensor.name!r} has {array.shape[0]}"
                for tensor, array in zip(self._tensors, arrays, strict=True)
            )
            raise InvalidInput(
                f"the inputs have unequal rows: {listed}; a model whose inputs share no batch axis needs "
                "batchable=False"
            )

    def _check_empty(self, arrays: Sequence[Array], empty_inputs: EmptyInputs) -> None:
        empty = {
            tensor.name: array.shape
            for tensor, array in zip(self._tensors, arrays, strict=True)
            if array.size == 0
        }
        why = empty_inputs.refusal(list(empty)) if empty else None
        if why is not None:
            listed = ", ".join(f"{name!r} has shape {shape}" for name, shape in empty.items())
            raise InvalidInput(f"input {listed}: {why}")


def _kind(dtype: np.dtype[Any]) -> str:
    if dtype == _BFLOAT16:
        return "f"
    return {"u": "i"}.get(dtype.kind, dtype.kind)


def _fits(shape: Sequence[int], declared: Sequence[int]) -> bool:
    return all(fixed in (-1, size) for size, fixed in zip(shape, declared, strict=True))


def _shown(declared: Sequence[int]) -> str:
    """Returns a declared shape as text, with "?" for its free dimensions."""
    inside = ", ".join("?" if size < 0 else str(size) for size in declared)
    return f"({inside},)" if len(declared) == 1 else f"({inside})"


def _holds_big_integers(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_big_integers(item) for item in value)
    return isinstance(value, int) and not -(2**63) <= value < 2**64
