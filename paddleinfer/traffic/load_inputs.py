"""Provides the inputs of a load's requests: arrays that are the same each time, or their rows in turn."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.models.spec import TensorSpec
from paddleinfer.sentences import shown

__all__ = ["LoadInputs", "inputs_in_turn"]

Array = npt.NDArray[Any]


class LoadInputs:
    """The inputs of successive requests.

    Parameters
    ----------
    arrays
        Input -> the array that every request carries, or the rows that requests take in turn.
    in_turn
        Input -> how many rows a request takes, for inputs whose rows are taken in turn.
    """

    def __init__(self, arrays: Mapping[str, Array], in_turn: Mapping[str, int] | None = None) -> None:
        self._arrays = dict(arrays)
        self._in_turn = dict(in_turn or {})

    def of_request(self, number: int) -> dict[str, Array]:
        """Returns the inputs of a request by its number, from 0 on; after the last row comes the first."""
        inputs = dict(self._arrays)
        for name, rows in self._in_turn.items():
            array = inputs[name]
            begin = number * rows % len(array)
            end = begin + rows
            over = max(0, end - len(array))
            inputs[name] = np.concatenate((array[begin:], array[:over])) if over else array[begin:end]
        return inputs

    @property
    def rows(self) -> int:
        """The rows of each request."""
        return min((len(array) if array.ndim else 1 for array in self.of_request(0).values()), default=0)

    @property
    def rows_in_turn(self) -> int | None:
        """How many rows there are before the first comes again; None if all requests are the same."""
        return max((len(self._arrays[name]) for name in self._in_turn), default=None)

    def described(self) -> list[dict[str, Any]]:
        """Describes each input of a request, for JSON."""
        return [
            {"name": name, "dtype": str(array.dtype), "shape": array.shape}
            for name, array in self.of_request(0).items()
        ]

    def __str__(self) -> str:
        shapes = ", ".join(
            f"{line['name']} {line['dtype']} {_shape_text(line['shape'])}" for line in self.described()
        )
        return shapes if self.rows_in_turn is None else f"{shapes}, {self.rows_in_turn:,} rows in turn"


def inputs_in_turn(arrays: Mapping[str, Array], wanted: Sequence[TensorSpec], rows: int | None) -> LoadInputs:
    """Lets requests take the rows of given arrays in turn.

    Parameters
    ----------
    arrays
        Input -> its array, for each input of the model.
    wanted
        The model's inputs.
    rows
        How many rows a request has; None: one, or as many as the model always takes.

    Raises
    ------
    ConfigError, InvalidInput
        The arrays do not fit the model or each other.
    """
    in_turn: dict[str, int] = {}
    for spec in wanted:
        array, own_rows = arrays[spec.name], _rows_of(spec, rows)
        if spec.shape and array.ndim == 0:
            raise InvalidInput(
                f"the input {shown(spec.name)} is one number, and the model takes {_shape_text(spec.shape)}"
            )
        if own_rows is None or array.ndim == 0:
            continue
        if len(array) < own_rows:
            raise InvalidInput(
                f"the input {shown(spec.name)} has {len(array)} rows, and a request needs {own_rows}"
            )
        if len(array) > own_rows:
            in_turn[spec.name] = own_rows
    for one, other in itertools.pairwise(in_turn):
        if len(arrays[one]) * in_turn[other] != len(arrays[other]) * in_turn[one]:
            raise InvalidInput(
                "the inputs of a request come from the same place of each file, but "
                f"{shown(one)} has {len(arrays[one])} rows and {shown(other)} {len(arrays[other])}"
            )
    return LoadInputs(arrays, in_turn)


def _rows_of(spec: TensorSpec, rows: int | None) -> int | None:
    """Returns how many rows a request has; None if the input has no rows."""
    if spec.shape is None or spec.shape[:1] == (-1,):
        return rows or 1
    own = spec.shape[0] if spec.shape else None
    if rows is not None and own is not None and rows != own:
        raise ConfigError(f"the input {shown(spec.name)} always has {own} rows, so --rows cannot be {rows}")
    return own


def _shape_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
