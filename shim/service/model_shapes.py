"""Assigns example shapes that are given for all models to the models that have such inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from paddleinfer.errors import ConfigError
from paddleinfer.models.reader import ModelSpec
from paddleinfer.sentences import shown

__all__ = ["ModelShapes"]

_OPTION: Final = "example_shapes"


class ModelShapes:
    """The options of all models. Each model gets the example shapes of its own inputs.

    ``MODEL:INPUT`` names one model's input. Without a model the shape is for each model with such an input.

    Raises
    ------
    ConfigError
        No model has one of the inputs.
    """

    def __init__(self, specs: Mapping[str, ModelSpec | None], options: Mapping[str, Any]) -> None:
        self._specs = specs
        shapes = options.get(_OPTION)
        self._shapes: Mapping[str, Any] = shapes if isinstance(shapes, Mapping) else {}
        self._options = {name: value for name, value in options.items() if value is not self._shapes}
        for given in self._shapes:
            if all(self._input_of(name, given) is None for name in specs):
                raise ConfigError(f"{_OPTION} names {shown(given)}, and no model has such an input")

    def options_of(self, name: str) -> dict[str, Any]:
        """Returns all options of this model."""
        own = {
            tensor: sizes
            for given, sizes in self._shapes.items()
            if (tensor := self._input_of(name, given)) is not None
        }
        return {**self._options, **({_OPTION: own} if own else {})}

    def _input_of(self, name: str, given: str) -> str | None:
        """Returns the name of an input in this model, or None. A single model gets all given shapes."""
        if self._has(name, given) and self._specs[name] is not None:
            return given
        model, colon, tensor = given.partition(":")
        if not colon or model not in self._specs:
            tensor = given
        elif model != name:
            return None
        return tensor if self._has(name, tensor) or len(self._specs) == 1 else None

    def _has(self, name: str, tensor: str) -> bool:
        """Tells whether a model has this input; a model without a spec may have any."""
        spec = self._specs[name]
        return spec is None or any(tensor in (known.name, known.alias) for known in spec.inputs)
