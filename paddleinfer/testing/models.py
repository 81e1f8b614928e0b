"""Exports Paddle models for tests, each once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from paddleinfer.backends.paddle.export import export
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.errors import ConfigError

__all__ = ["ExportedModels"]

Format = Literal["json", "legacy"]


class ExportedModels:
    """Exports layers and functions, and remembers their directories.

    Parameters
    ----------
    root
        An empty directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._exported: dict[object, tuple[str, Path]] = {}
        self._count = 0

    def __call__(
        self, model: Any, inputs: Mapping[str, Any], *, key: str | None = None, format: Format | None = None
    ) -> Path:
        """Returns the directory of a model, which is exported unless it was before.

        Parameters
        ----------
        model
            A layer or a function on tensors, as ``paddleinfer.export`` takes it; or a class or function
            without required arguments that makes one, called with Paddle's random numbers seeded.
        inputs
            Name -> (dtype, shape), -1 for a free dimension.
        key
            The key by which to find it later. None: the module and name of `model` if it has one of its own;
            anything else (a lambda, a local function, a layer) is exported each time.
        format
            "json" or "legacy"; None is the newer of those that the installed Paddle writes.

        Raises
        ------
        ConfigError
            The model cannot be exported, or the key stands for another one.
        """
        paddle = import_paddle()
        if format is None:
            format = "legacy" if paddle.__version__.startswith("2.") else "json"
        name = _qualified_name(model)
        described = f"{name or type(model).__qualname__} with {dict(inputs)!r} as {format}"
        found: object = key if key is not None else (described if name is not None else None)
        if found is not None and found in self._exported:
            before, directory = self._exported[found]
            if before != described:
                raise ConfigError(f"key {key!r} stands for {before}; give {described} another")
            return directory
        directory = self._root / f"model-{self._count}"
        self._count += 1
        export(_made(paddle, model), directory, inputs=inputs, format=format)
        if found is not None:
            self._exported[found] = (described, directory)
        return directory


def _qualified_name(model: Any) -> str | None:
    """Returns a qualified name if only one thing has it, else None."""
    name = getattr(model, "__qualname__", None)
    bound = inspect.ismethod(model)
    return None if not isinstance(name, str) or "<" in name or bound else f"{model.__module__}.{name}"


def _made(paddle: Any, model: Any) -> Any:
    """Returns the layer or function itself."""
    undecorated = getattr(model, "dygraph_function", model)  # the object that to_static was applied to
    if isinstance(undecorated, paddle.nn.Layer) or not callable(undecorated):
        return model
    try:
        parameters = inspect.signature(undecorated).parameters.values()
    except (TypeError, ValueError):
        return model
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in variable]
    if required:
        if inspect.isclass(model):
            raise ConfigError(
                f"{model.__qualname__} needs {', '.join(required)}; give a function without arguments that "
                "makes it"
            )
        return model
    state = paddle.get_rng_state()
    paddle.seed(0)
    try:
        return model()
    finally:
        paddle.set_rng_state(state)
