"""Light copies of a pipeline: objects of PaddleX's are copied, and the engines behind them are shared."""

from __future__ import annotations

import enum
import functools
import types
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from paddlex.inference.models.predictors import LocalModelPredictor
from paddlex.inference.models.runners.inference_runner import InferenceRunner

from paddleinfer.errors import ConfigError
from paddleinfer.paddlex.model_options import ENGINE_NAME
from paddleinfer.paddlex.runner import EngineRunner
from paddleinfer.sentences import shown

__all__ = ["copy_of", "runners_of"]

_COPIED_PACKAGES: Final = {"paddlex", "paddleocr"}
_ATOMS: Final = (
    *(str, bytes, int, float, bool, type(None), enum.Enum),
    *(type, types.FunctionType, types.ModuleType),
)


class _Copier:
    """Copies PaddleX's and PaddleOCR's objects, and the containers that they keep; the rest is shared."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        if isinstance(value, _ATOMS):
            return value
        if id(value) not in self._made:
            self._copy(value)
        return self._made[id(value)]

    def _copy(self, value: Any) -> None:
        kind = type(value)
        made: Any
        if isinstance(value, EngineRunner):
            made = value.again()
        elif isinstance(value, np.ndarray):
            made = value.copy()
        elif isinstance(value, types.MethodType):
            made = types.MethodType(value.__func__, self.of(value.__self__))
        elif kind is functools.partial:
            arguments = [self.of(argument) for argument in value.args]
            made = functools.partial(self.of(value.func), *arguments, **self.of(value.keywords))
        elif kind in (tuple, set, frozenset, deque):
            made = kind(map(self.of, value))
        elif isinstance(value, (dict, list)) or _is_copied(kind):
            self._copy_object(value)
            return
        else:
            made = value
        self._made[id(value)] = made

    def _copy_object(self, value: Any) -> None:
        """An object that may lead back to itself is known before its parts are copied."""
        if isinstance(value, (InferenceRunner, LocalModelPredictor)):
            _refuse_unless_ours(value)
        kind: Any = type(value)
        made = self._made[id(value)] = kind.__new__(kind)
        if isinstance(value, dict):
            for key, part in value.items():
                dict.__setitem__(made, self.of(key), self.of(part))
        elif isinstance(value, list):
            list.extend(made, map(self.of, value))
        for name, part in getattr(value, "__dict__", {}).items():
            made.__dict__[name] = self.of(part)


def _is_copied(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in _COPIED_PACKAGES and "__slots__" not in kind.__dict__


def _refuse_unless_ours(value: Any) -> None:
    if isinstance(value, LocalModelPredictor) and isinstance(getattr(value, "runner", None), EngineRunner):
        return
    name = getattr(value, "model_name", None) or type(value).__name__
    raise ConfigError(
        f"{shown(name)} runs on an engine that threads cannot share; make the pipeline with "
        f"engine={ENGINE_NAME!r}, for this model, too"
    )


def copy_of(pipeline: Any) -> Any:
    """Returns a copy of a pipeline or predictor with state of its own, on the same engines.

    Raises
    ------
    ConfigError
        A model of it runs on another engine.
    """
    return _Copier().of(pipeline)


def runners_of(pipeline: Any) -> Iterator[EngineRunner]:
    """Yields the runners of a pipeline or predictor, each once."""
    todo, seen = [pipeline], set()
    while todo:
        value = todo.pop()
        if isinstance(value, _ATOMS) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, EngineRunner):
            yield value
        elif isinstance(value, dict):
            todo.extend(value.values())
        elif isinstance(value, (list, tuple, set, deque)):
            todo.extend(value)
        if _is_copied(type(value)):
            todo.extend(getattr(value, "__dict__", {}).values())
