"""Drives onnxruntime through Python's ``InferenceSession``, where its C interface cannot be used.

The instance threads call it, which share one session; ``run`` lets go of the GIL while it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from paddleinfer import _ext
from paddleinfer.backends.onnx.imported import imported
from paddleinfer.backends.onnx.runtimes import NamedTensor

__all__ = ["PythonSession"]

_FATAL = 4


class PythonSession:
    """A loaded model, for all instances of an engine.

    Raises
    ------
    RuntimeError
        onnxruntime cannot be imported, or cannot load it.
    """

    def __init__(self, path: Path, threads: int) -> None:
        onnxruntime = imported("onnxruntime")

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _FATAL
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exceptions have no base but this
            raise RuntimeError(str(error)) from error
        self.inputs = [NamedTensor(tensor.name, None) for tensor in self._session.get_inputs()]
        self.outputs = [tensor.name for tensor in self._session.get_outputs()]

    def place_of(self, name: str) -> int:
        """See LoadedFile."""
        return next((place for place, one in enumerate(self.inputs) if one.name == name), -1)

    def backends(self, places: Sequence[tuple[str, int]]) -> _ext.BackendFactory:
        """See LoadedFile."""
        run, outputs = self._session.run, self.outputs

        def call(arrays: list[Any]) -> list[Any]:
            given_to = zip(places, arrays, strict=True)
            feeds = {name: array for (name, place), array in given_to if place >= 0}
            given: list[Any] = run(outputs, feeds)
            return given

        def opened(instance: int) -> Callable[[list[Any]], list[Any]]:
            return call

        return _ext.PythonBackends(opened)
