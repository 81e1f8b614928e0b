"""Padding of named axes, so that requests of different lengths can share a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.config import PadAxis
from paddleinfer.conversion import Converter
from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.explanation import InferInfo, engine_stages
from paddleinfer.model import TensorSpec

__all__ = ["Padded", "PaddedHandle", "Padding", "explained", "info_of"]

Array = npt.NDArray[Any]
Results = dict[str, Array]


@dataclass(frozen=True)
class Padded:
    """A request whose inputs have been padded, and how to undo that in its results."""

    feeds: dict[str, Array]
    crops: Mapping[str, tuple[tuple[int, int], ...]]
    """Output -> (axis, length) pairs."""
    share: float
    """Of the elements of its inputs, how many are padding."""

    def crop(self, results: Results) -> Results:
        """The results without what belongs to padding; arrays of their own."""
        return {name: self._cropped(name, array) for name, array in results.items()}

    def _cropped(self, name: str, array: Array) -> Array:
        kept = array
        for axis, length in self.crops.get(name, ()):
            if axis < array.ndim:
                kept = kept[(slice(None),) * axis + (slice(0, length),)]
        return array if kept is array else kept.copy()


def explained(facts: Mapping[str, Any], padded: Padded | None) -> InferInfo:
    """What the core says of a request, with its own padding counted."""
    own = 0.0 if padded is None else padded.share
    told = {name: value for name, value in facts.items() if name != "instants_ns"}
    told["padded_share"] = 1 - (1 - facts["padded_share"]) * (1 - own)
    called, arrival, started, gathered, over, scattered = facts["instants_ns"]
    hold_ns = round(facts["hold_us"] * 1e3)
    stages = engine_stages(called, arrival, started, gathered, over, scattered, hold_ns)
    return InferInfo(**told, stages=tuple(stages))


@dataclass(frozen=True)
class PaddedHandle:
    """A request under way, whose result is cropped."""

    handle: _ext.Handle
    padded: Padded

    def wait(self, timeout: float | None) -> bool:
        """As of the handle."""
        return self.handle.wait(timeout)

    def give_up(self) -> None:
        """As of the handle."""
        self.handle.give_up()

    def result(self) -> Results:
        """The cropped outputs."""
        return self.padded.crop(self.handle.result())


def info_of(request: _ext.Handle | PaddedHandle) -> InferInfo | None:
    """Why a request went as it did; None before its end, and when it never ran."""
    handle, padded = (
        (request.handle, request.padded) if isinstance(request, PaddedHandle) else (request, None)
    )
    facts = handle.info()
    return None if facts is None else explained(facts, padded)


class Padding:
    """Pads requests as the options say.

    Parameters
    ----------
    axes
        What to pad.
    inputs, outputs
        The model's.
    converter
        Turns what callers give into arrays.

    Raises
    ------
    ConfigError
        An axis names a tensor that the model does not have, or an axis that the tensor does not have.
    """

    def __init__(
        self,
        axes: Sequence[PadAxis],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        converter: Converter,
    ) -> None:
        self._axes = tuple(axes)
        self._inputs = {tensor.name: tensor for tensor in inputs}
        self._names = tuple(self._inputs)
        self._aliases = {tensor.alias: tensor.name for tensor in inputs if tensor.alias}
        self._converter = converter
        for pad in self._axes:
            _check(pad, self._inputs, {tensor.name for tensor in outputs})

    def apply(self, feeds: object) -> Padded:
        """Converts and pads one request.

        Raises
        ------
        InvalidInput
            It does not fit the model, or inputs that share an axis differ in its length.
        """
        arrays = dict(zip(self._names, self._converter(self._completed(feeds)), strict=True))
        real = sum(array.size for array in arrays.values())
        crops: dict[str, list[tuple[int, int]]] = {}
        for pad in self._axes:
            length = _length(pad, arrays)
            target = _target(pad, length)
            if target == length:
                continue
            for name, axis in _padded_inputs(pad, self._inputs):
                arrays[name] = _grown(arrays[name], axis, target, pad.fill.get(name, 0))
            for name, axis in pad.outputs.items():
                crops.setdefault(name, []).append((axis, length))
        share = 1 - real / sum(array.size for array in arrays.values())
        return Padded(arrays, {name: tuple(pairs) for name, pairs in crops.items()}, share)

    def _completed(self, feeds: object) -> object:
        """The feeds with the masks and lengths that the caller left to us."""
        if not isinstance(feeds, Mapping):
            return feeds
        made = {self._aliases.get(name, name): value for name, value in feeds.items()}
        for pad in self._axes:
            first, axis = next(iter(pad.inputs.items()))
            if first not in made:
                continue  # the converter says what is missing
            shape = np.shape(made[first])
            if len(shape) <= axis:
                continue
            if pad.mask is not None and pad.mask not in made:
                made[pad.mask] = np.ones((shape[0], shape[axis]), self._dtype(pad.mask))
            if pad.lengths is not None and pad.lengths not in made:
                declared = self._inputs[pad.lengths].shape or (-1,)
                made[pad.lengths] = np.full(
                    (shape[0], *[1] * (len(declared) - 1)), shape[axis], self._dtype(pad.lengths)
                )
        return made

    def _dtype(self, name: str) -> np.dtype[Any]:
        return _ext.NUMPY_DTYPES[self._inputs[name].dtype]


def _padded_inputs(pad: PadAxis, inputs: Mapping[str, TensorSpec]) -> list[tuple[str, int]]:
    masks = [(pad.mask, 1)] if pad.mask is not None and pad.mask not in pad.inputs else []
    return [*pad.inputs.items(), *masks]


def _check(pad: PadAxis, inputs: Mapping[str, TensorSpec], outputs: set[str]) -> None:
    named = [*pad.inputs, *pad.fill, *(name for name in (pad.mask, pad.lengths) if name is not None)]
    for name in named:
        if name not in inputs:
            raise ConfigError(f"pad names the input {name!r}; the model has {', '.join(inputs)}")
    for name in pad.outputs:
        if name not in outputs:
            raise ConfigError(f"pad names the output {name!r}; the model has {', '.join(sorted(outputs))}")
    for name, axis in _padded_inputs(pad, inputs):
        shape = inputs[name].shape
        if shape is not None and axis >= len(shape):
            raise ConfigError(f"pad names axis {axis} of input {name!r}, which has {len(shape)}")
        if shape is not None and shape[axis] >= 0:
            raise ConfigError(f"pad names axis {axis} of input {name!r}, which is {shape[axis]} long always")


def _length(pad: PadAxis, arrays: Mapping[str, Array]) -> int:
    lengths: dict[str, int] = {name: arrays[name].shape[axis] for name, axis in pad.inputs.items()}
    if pad.mask is not None:
        lengths[pad.mask] = arrays[pad.mask].shape[1]
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} has {length}" for name, length in lengths.items())
        raise InvalidInput(f"inputs that are padded together must be equally long, and {listed}")
    return next(iter(lengths.values()))


def _target(pad: PadAxis, length: int) -> int:
    if pad.sizes:
        target = next((size for size in pad.sizes if size >= length), length)
    else:
        target = math.ceil(length / pad.multiple) * pad.multiple
    return target if (target - length) / target <= pad.max_waste else length


def _grown(array: Array, axis: int, length: int, fill: float) -> Array:
    shape = (*array.shape[:axis], length, *array.shape[axis + 1 :])
    grown = np.full(shape, fill, array.dtype)
    grown[(slice(None),) * axis + (slice(0, array.shape[axis]),)] = array
    return grown
