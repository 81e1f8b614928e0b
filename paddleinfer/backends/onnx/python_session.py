"""Drives onnxruntime through Python's ``InferenceSession``, where its C interface cannot be used.

The instance threads call it, which share one session; ``run`` lets go of the GIL while it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from paddleinfer.errors import ConfigError
from paddleinfer.models.reader import ModelSpec

__all__ = ["PythonSession", "refuse_unfeedable"]

_FATAL = 4


def refuse_unfeedable(spec: ModelSpec) -> None:
    """Refuses models whose arrays onnxruntime's Python interface does not take.

    Raises
    ------
    ConfigError
        The sentence names the input or output.
    """
    for tensor in (*spec.inputs, *spec.outputs):
        if tensor.dtype == "bfloat16":
            raise ConfigError(
                f"{tensor.name!r} is bfloat16, which only the native driver can feed to onnxruntime"
            )


class PythonSession:
    """A loaded model, for all instances of an engine.

    Raises
    ------
    RuntimeError
        onnxruntime cannot load it.
    """

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _FATAL
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exceptions have no base but this
            raise RuntimeError(str(error)) from error
        self.inputs = [tensor.name for tensor in self._session.get_inputs()]
        self.outputs = [tensor.name for tensor in self._session.get_outputs()]

    def opener(
        self, inputs: Sequence[str], outputs: Sequence[str]
    ) -> Callable[[int], Callable[[list[Any]], list[Any]]]:
        """Returns what the core calls on each instance's thread; the names are those of OrtBackends."""
        run = self._session.run

        def call(arrays: list[Any]) -> list[Any]:
            feeds = {name: array for name, array in zip(inputs, arrays, strict=True) if name}
            given: list[Any] = run(list(outputs), feeds)
            return given

        return lambda instance: call
