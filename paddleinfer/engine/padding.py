"""Pads named axes, so that requests of different lengths can share a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.config import PadAxis
from paddleinfer.engine.conversion import Converter
from paddleinfer.engine.greenlets import GreenHandle
from paddleinfer.errors import ConfigError, InvalidInput, ModelError
from paddleinfer.explanation import InferInfo
from paddleinfer.models.reader import TensorSpec
from paddleinfer.sentences import listed, shown
from paddleinfer.stages import engine_stages

__all__ = [
    "Crop",
    "Padded",
    "PaddedHandle",
    "Padding",
    "explained",
    "info_of",
    "length_of",
    "padded_inputs",
    "target_of",
]

Array = npt.NDArray[Any]
Results = dict[str, Array]


@dataclass(frozen=True)
class Crop:
    """Describes which part of one axis of an output remains."""

    axis: int
    length: int
    """Elements that belong to the data."""
    padded_length: int
    """All elements of the output's axis, by the options."""
    target: int
    """The length to which the inputs were padded."""

    def check(self, name: str, array: Array) -> None:
        """Refuses an output of another length, because cropped it would be wrong."""
        if array.ndim > self.axis and array.shape[self.axis] == self.padded_length:
            return
        raise ModelError(
            f"pad says that output {shown(name)} is {self.padded_length} long on axis {self.axis} for inputs "
            f"padded to {self.target}, and its shape is {array.shape}: correct outputs or per of PadAxis"
        )


@dataclass(frozen=True)
class Padded:
    """A request with padded inputs, and how to undo the padding in its results."""

    feeds: dict[str, Array]
    crops: Mapping[str, tuple[Crop, ...]]
    """By output."""
    share: float
    """How many of its inputs' elements are padding."""

    def crop(self, results: Results) -> Results:
        """Returns new arrays of the results without their padding.

        Raises
        ------
        ModelError
            An output is not as long as the options say.
        """
        return {name: self._cropped(name, array) for name, array in results.items()}

    def _cropped(self, name: str, array: Array) -> Array:
        kept = array
        for crop in self.crops.get(name, ()):
            crop.check(name, array)
            kept = kept[(slice(None),) * crop.axis + (slice(0, crop.length),)]
        return array if kept is array else kept.copy()


def explained(facts: Mapping[str, Any], padded: Padded | None) -> InferInfo:
    """Returns the core's record of a request, with the request's own padding counted."""
    own = 0.0 if padded is None else padded.share
    told = {name: value for name, value in facts.items() if name != "instants_ns"}
    told["padded_share"] = 1 - (1 - facts["padded_share"]) * (1 - own)
    called, arrival, started, gathered, over, scattered = facts["instants_ns"]
    hold_ns = round(facts["hold_us"] * 1e3)
    stages = engine_stages(called, arrival, started, gathered, over, scattered, hold_ns)
    return InferInfo(**told, stages=tuple(stages))


@dataclass(frozen=True)
class PaddedHandle:
    """A request under way whose result is cropped."""

    handle: _ext.Handle | GreenHandle
    padded: Padded

    @property
    def rows(self) -> int:
        """Does what the handle does."""
        return self.handle.rows

    def done(self) -> bool:
        """Does what the handle does."""
        return self.handle.done()

    def wait(self, timeout: float | None) -> bool:
        """Does what the handle does."""
        return self.handle.wait(timeout)

    def give_up(self) -> None:
        """Does what the handle does."""
        self.handle.give_up()

    def result(self) -> Results:
        """Returns the cropped outputs."""
        return self.padded.crop(self.handle.result())


class TellsWhy(Protocol):
    """A handle, of one request or of several, that says why the request went as it did."""

    def info(self) -> Any:
        """Returns why it went as it did; None before its end."""


def info_of(request: TellsWhy | PaddedHandle) -> InferInfo | None:
    """Returns why a request went as it did; None before its end, or if it never ran."""
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
        The axes to pad.
    inputs, outputs
        The model's tensors.
    converter
        It turns what callers give into arrays.

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
        self.axes = tuple(axes)
        self._inputs = {tensor.name: tensor for tensor in inputs}
        self._names = tuple(self._inputs)
        self._aliases = {tensor.alias: tensor.name for tensor in inputs if tensor.alias}
        # An output has the name that the caller asked for.
        self._called = {tensor.name: (tensor.name, *filter(None, (tensor.alias,))) for tensor in outputs}
        self._converter = converter
        for pad in self.axes:
            _check(pad, self._inputs, {tensor.name: tensor for tensor in outputs})

    def apply(self, feeds: object) -> Padded:
        """Converts and pads one request.

        Raises
        ------
        InvalidInput
            It does not fit the model, or inputs that share an axis differ in its length.
        """
        return self.padded(self.arrays(feeds))

    def arrays(self, feeds: object) -> dict[str, Array]:
        """Returns the request's arrays by name, with the masks and lengths that the caller left out."""
        return dict(zip(self._names, self._converter(self._completed(feeds)), strict=True))

    def padded(self, given: Mapping[str, Array]) -> Padded:
        """Pads arrays that fit the model."""
        arrays = dict(given)
        real = sum(array.size for array in arrays.values())
        crops: dict[str, list[Crop]] = {}
        for pad in self.axes:
            length = length_of(pad, arrays)
            target = target_of(pad, length)
            if target == length:
                continue
            for name, axis in padded_inputs(pad):
                arrays[name] = _grown(arrays[name], axis, target, pad.fill.get(name, 0))
            for name, axis in pad.outputs.items():
                per = pad.per.get(name, 1)
                crop = Crop(axis, math.ceil(length / per), math.ceil(target / per), target)
                for called in self._called[name]:
                    crops.setdefault(called, []).append(crop)
        total = sum(array.size for array in arrays.values())
        share = 1 - real / total if total else 0.0
        return Padded(arrays, {name: tuple(found) for name, found in crops.items()}, share)

    def _completed(self, feeds: object) -> object:
        """Adds the masks and lengths that the caller left out."""
        if not isinstance(feeds, Mapping):
            return feeds
        made = {self._aliases.get(name, name): value for name, value in feeds.items()}
        for pad in self.axes:
            first, axis = next(iter(pad.inputs.items()))
            if first not in made:
                continue  # the converter reports what is missing
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


def padded_inputs(pad: PadAxis) -> list[tuple[str, int]]:
    """Returns the inputs that are padded, a mask included, with their axes."""
    masks = [(pad.mask, 1)] if pad.mask is not None and pad.mask not in pad.inputs else []
    return [*pad.inputs.items(), *masks]


def _check(pad: PadAxis, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]) -> None:
    named = [*pad.inputs, *pad.fill, *(name for name in (pad.mask, pad.lengths) if name is not None)]
    for name in named:
        if name not in inputs:
            raise ConfigError(f"pad names the input {shown(name)}; the model has {listed(inputs)}")
    for name, axis in pad.outputs.items():
        if name not in outputs:
            raise ConfigError(f"pad names the output {shown(name)}; the model has {listed(sorted(outputs))}")
        shape = outputs[name].shape
        if shape is not None and axis >= len(shape):
            raise ConfigError(f"pad names axis {axis} of output {shown(name)}, which has {len(shape)}")
    for name, axis in padded_inputs(pad):
        shape = inputs[name].shape
        if shape is not None and axis >= len(shape):
            raise ConfigError(f"pad names axis {axis} of input {shown(name)}, which has {len(shape)}")
        if shape is not None and shape[axis] >= 0:
            raise ConfigError(
                f"pad names axis {axis} of input {shown(name)}, which is {shape[axis]} long always"
            )


def length_of(pad: PadAxis, arrays: Mapping[str, Array]) -> int:
    """Returns the length of the axis in a request."""
    lengths: dict[str, int] = {name: arrays[name].shape[axis] for name, axis in pad.inputs.items()}
    if pad.mask is not None:
        lengths[pad.mask] = arrays[pad.mask].shape[1]
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{shown(name)} has {length}" for name, length in lengths.items())
        raise InvalidInput(f"inputs that are padded together must be equally long, and {listed}")
    return next(iter(lengths.values()))


def target_of(pad: PadAxis, length: int) -> int:
    """Returns the length to which it is padded."""
    if pad.sizes:
        target = next((size for size in pad.sizes if size >= length), length)
    else:
        target = math.ceil(length / pad.multiple) * pad.multiple
    return target if target - length <= pad.max_waste * target else length


def _grown(array: Array, axis: int, length: int, fill: float) -> Array:
    shape = (*array.shape[:axis], length, *array.shape[axis + 1 :])
    grown = np.full(shape, fill, array.dtype)
    grown[(slice(None),) * axis + (slice(0, array.shape[axis]),)] = array
    return grown
