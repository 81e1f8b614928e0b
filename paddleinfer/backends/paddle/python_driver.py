"""Drives Paddle through its own Python ``run()``, for builds whose C++ symbols cannot be found.

The same instance threads call it, so the semantics are the same, but each call holds the GIL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paddleinfer import _ext
from paddleinfer.backends.paddle.installed import InstalledPaddle
from paddleinfer.backends.paddle.process_settings import Deletion
from paddleinfer.errors import ConfigError, ModelLoadError
from paddleinfer.models.file_states import refuse_changed
from paddleinfer.models.reader import ModelSpec

__all__ = ["PythonPredictors", "refuse_unfeedable"]

# Paddle's binding silently turns these into int32.
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
    """Makes predictors, on each instance's thread: the root first, then its clones."""

    def __init__(
        self,
        installed: InstalledPaddle,
        library: _ext.PaddleLibrary,
        config: Any,
        spec: ModelSpec,
        new_part: Callable[[], _ext.OneDnnPart | None],
        fall_back: _ext.FallBack | None = None,
        fall_back_config: Any = None,
        *,
        deletion: Deletion,
        renews: bool = False,
    ) -> None:
        self._installed = installed
        self._library = library
        self._config = config
        self._spec = spec
        self._new_part = new_part
        self._fall_back = fall_back
        self._fall_back_config = fall_back_config
        self._deletion = deletion
        self._renews = renews
        self._root: Any = None

    def __call__(self, instance: int) -> PythonPredictor | FallBackPredictor:
        """Makes the predictor of one instance."""
        if self._fall_back is None:
            return self._made(instance)
        return FallBackPredictor(lambda: self._made(instance), self._without_onednn, self._fall_back)

    def _without_onednn(self) -> PythonPredictor:
        inference = self._installed.inference
        refuse_changed(self._spec.files, "in service")
        with _ext.predictor_lock(), self._plain_deletion_scope():
            # A config makes only one predictor, so a copy is used.
            predictor = inference.create_predictor(inference.Config(self._fall_back_config))
        refuse_changed(self._spec.files, "in service")
        return PythonPredictor(predictor, self._spec, None, self._plain_deletion_scope)

    def _deletion_scope(self) -> _ext.DeletionScope:
        return _ext.DeletionScope(self._library, self._deletion.gb)

    def _plain_deletion_scope(self) -> _ext.DeletionScope:
        return _ext.DeletionScope(self._library, self._deletion.plain_gb)

    def _made(self, instance: int) -> PythonPredictor:
        with _ext.predictor_lock(), self._deletion_scope():
            if instance == 0:
                with _ext.OneDnnCacheGuard(self._library):
                    self._root = self._installed.inference.create_predictor(self._config)
            # A running predictor must not be cloned; where predictors are renewed, the root never runs.
            predictor = self._root if instance == 0 and not self._renews else self._clone()
        on_close = self._forget_root if instance == 0 else None
        return PythonPredictor(
            predictor, self._spec, self._new_part(), self._deletion_scope, on_close, self._clone
        )

    def _clone(self) -> Any:
        return self._root.clone()

    def _forget_root(self) -> None:
        self._root = None


class PythonPredictor:
    """One predictor that takes and returns lists of arrays."""

    def __init__(
        self,
        predictor: Any,
        spec: ModelSpec,
        kernels: _ext.OneDnnPart | None,
        deletion_scope: Callable[[], _ext.DeletionScope],
        on_close: Callable[[], None] | None = None,
        clone: Callable[[], Any] | None = None,
    ) -> None:
        self._predictor = predictor
        self._spec = spec
        self._inputs = self._opened()
        self._kernels = kernels
        self._deletion_scope = deletion_scope
        self._has_run = False  # the predictor
        self._on_close = on_close
        self._clone = clone

    def _opened(self) -> list[Any]:
        return [self._predictor.get_input_handle(tensor.name) for tensor in self._spec.inputs]

    def __call__(self, arrays: list[Any]) -> list[Any]:
        """Runs the model once.

        Raises
        ------
        RuntimeError
            Paddle's own errors.
        """
        if self._kernels is not None and self._kernels.is_due_for_renewal:
            self._renew(self._kernels)
        for handle, array in zip(self._inputs, arrays, strict=True):
            handle.reshape(list(array.shape))
            handle.copy_from_cpu(array)
        if self._kernels is not None:
            self._kernels.before_run([array.shape for array in arrays])
        self._run()
        if self._kernels is not None:
            self._kernels.after_run()
        return [self._predictor.get_output_handle(tensor.name).copy_to_cpu() for tensor in self._spec.outputs]

    def _run(self) -> None:
        if self._has_run:
            self._predictor.run()
            return
        with self._deletion_scope():
            self._predictor.run()
        self._has_run = True

    def _renew(self, kernels: _ext.OneDnnPart) -> None:
        assert self._clone is not None
        with _ext.predictor_lock():
            try:
                refuse_changed(self._spec.files, "in service")
                with self._deletion_scope():
                    predictor = self._clone()
                refuse_changed(self._spec.files, "in service")
            except ModelLoadError:  # the kernels have to stay until the model is loaded again
                return
            kernels.begin_renewal()
            self._inputs.clear()
            self._predictor = predictor
            self._has_run = False
            kernels.end_renewal()
            self._inputs = self._opened()

    def close(self) -> None:
        """Releases the predictor, on the thread it lived on."""
        with _ext.predictor_lock():
            self._inputs.clear()
            if self._kernels is not None:
                self._kernels.close()
            if self._on_close is not None:
                self._on_close()
            del self._predictor
        _ext.trim_malloc()  # the weights would stay in its heaps


class FallBackPredictor:
    """A predictor with oneDNN, until one without it runs what the first fails on; see ``_ext.FallBack``."""

    def __init__(
        self,
        first: Callable[[], PythonPredictor],
        second: Callable[[], PythonPredictor],
        fall_back: _ext.FallBack,
    ) -> None:
        self._second = second
        self._fall_back = fall_back
        # The first predictor stays until the end, because others may be its clones.
        self._first: PythonPredictor | None = None
        self._present: PythonPredictor | None = None
        if fall_back.in_force:
            self._present = second()
            return
        try:
            self._present = self._first = first()
        except Exception as error:
            self._try(error, lambda predictor: predictor)

    def __call__(self, arrays: list[Any]) -> list[Any]:
        """Runs the model once.

        Raises
        ------
        RuntimeError
            Paddle's own errors.
        """
        changed = self._present is not self._first
        if not changed and self._fall_back.in_force:
            self._present, changed = self._second(), True
        assert self._present is not None
        try:
            return self._present(arrays)
        except Exception as error:
            # One request without elements must not turn oneDNN off for all others.
            if changed or not all(array.size for array in arrays):
                raise
            outputs: list[Any] = self._try(error, lambda predictor: predictor(arrays))
            return outputs

    def _try(self, error: Exception, use: Callable[[PythonPredictor], Any]) -> Any:
        """Tries a predictor without oneDNN, and keeps it if it does not fail as well."""
        failure = f"{type(error).__name__}: {error}"
        if not self._fall_back.may_try(failure):
            raise error
        try:
            predictor = self._second()
        except Exception:  # the first failure is the one to report
            raise error from None
        try:
            used = use(predictor)
        except Exception:
            predictor.close()
            raise error from None
        self._present = predictor
        self._fall_back.helped(failure)
        return used

    def close(self) -> None:
        """Releases the predictors, on the thread they lived on."""
        if self._present is not None and self._present is not self._first:
            self._present.close()
        if self._first is not None:
            self._first.close()
