"""Paddle through its own Python ``run()``: for builds whose C++ symbols cannot be found.

The same instance threads call it, so the semantics are the same; each call holds the GIL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paddleinfer import _ext
from paddleinfer.errors import ConfigError
from paddleinfer.installed_paddle import InstalledPaddle
from paddleinfer.model import ModelSpec

__all__ = ["PythonPredictors", "refuse_unfeedable"]

# Paddle's binding turns these into int32 without a word.
_UNFEEDABLE = ("bfloat16", "int16")


def refuse_unfeedable(spec: ModelSpec) -> None:
    """Refuses models that Paddle's Python API cannot feed.

    Raises
    ------
    ConfigError
        The sentence names the input or output.
    """
    for tensor in (*spec.inputs, *spec.outputs):
        if tensor.dtype in _UNFEEDABLE:
            raise ConfigError(
                f"{tensor.name!r} is {tensor.dtype}, which only the native driver can feed to Paddle"
            )


class PythonPredictors:
    """Called on each instance's thread: makes the root first, then its clones."""

    def __init__(
        self,
        installed: InstalledPaddle,
        library: _ext.PaddleLibrary,
        config: Any,
        spec: ModelSpec,
        new_budget: Callable[[], _ext.OneDnnBudget | None],
    ) -> None:
        self._installed = installed
        self._library = library
        self._config = config
        self._spec = spec
        self._new_budget = new_budget
        self._root: Any = None

    def __call__(self, instance: int) -> PythonPredictor:
        """The predictor of one instance."""
        with _ext.predictor_lock():
            if instance == 0:
                with _ext.OneDnnShelterAround(self._library):
                    predictor = self._installed.module.inference.create_predictor(self._config)
                self._root = predictor
            else:
                predictor = self._root.clone()
        on_close = self._forget_root if instance == 0 else None
        return PythonPredictor(predictor, self._spec, self._new_budget(), on_close)

    def _forget_root(self) -> None:
        self._root = None


class PythonPredictor:
    """One predictor: lists of arrays in, lists of arrays out."""

    def __init__(
        self,
        predictor: Any,
        spec: ModelSpec,
        budget: _ext.OneDnnBudget | None,
        on_close: Callable[[], None] | None,
    ) -> None:
        self._predictor = predictor
        self._inputs = [predictor.get_input_handle(tensor.name) for tensor in spec.inputs]
        self._spec = spec
        self._budget = budget
        self._on_close = on_close

    def __call__(self, arrays: list[Any]) -> list[Any]:
        """One execution.

        Raises
        ------
        RuntimeError
            Paddle's own errors.
        """
        for handle, array in zip(self._inputs, arrays, strict=True):
            handle.reshape(list(array.shape))
            handle.copy_from_cpu(array)
        if self._budget is not None:
            self._budget.before_run([array.shape for array in arrays])
        self._predictor.run()
        return [self._predictor.get_output_handle(tensor.name).copy_to_cpu() for tensor in self._spec.outputs]

    def close(self) -> None:
        """Lets go of the predictor, on the thread it lived on."""
        with _ext.predictor_lock():
            self._inputs.clear()
            if self._budget is not None:
                self._budget.close()
            if self._on_close is not None:
                self._on_close()
            del self._predictor
