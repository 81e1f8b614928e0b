"""Runs ONNX models on onnxruntime: one session, which all instances share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paddleinfer import _ext
from paddleinfer.backends.onnx.installed import InstalledOnnxRuntime
from paddleinfer.backends.onnx.native_files import NativeFile, opened
from paddleinfer.backends.onnx.python_session import PythonSession
from paddleinfer.backends.onnx.runtimes import Driver, LoadedFile
from paddleinfer.resolved_options import ResolvedOptions
from paddleinfer.sentences import printable

__all__ = ["OnnxRuntime"]


class OnnxRuntime:
    """onnxruntime, as it is installed here.

    Raises
    ------
    ConfigError
        It is not.
    """

    name = "onnxruntime"
    python_call = "InferenceSession.run"
    weight_copies = 1

    def __init__(self) -> None:
        self._installed = InstalledOnnxRuntime.find()
        self._library: _ext.OrtLibrary | None = None

    @property
    def version(self) -> str:
        """The installed version."""
        return self._installed.version

    def native_problem(self) -> str:
        """Opens its C interface, and says why that cannot be used; empty if it can."""
        self._library, problem = opened(
            f"onnxruntime {self.version}", "libonnxruntime.so", self._installed.library, _ext.OrtLibrary
        )
        return problem

    def load(self, path: Path, driver: Driver, resolved: ResolvedOptions) -> LoadedFile:
        """Loads a file for the instances and threads that the options name, and notes how they compute.

        Raises
        ------
        RuntimeError
            It cannot.
        """
        helpers = resolved.instances * (resolved.cpu_threads - 1)
        if helpers:
            note = (
                f"the instances' own threads, and {helpers} of the session's, which help whichever "
                "instance runs"
            )
        else:
            note = "each instance computes on its own thread"
        resolved.note("cpu_threads", note)
        resolved.note("share_weights", "one session, which holds the weights once, serves all instances")
        if driver == "python":
            return PythonSession(path, helpers + 1)
        assert self._library is not None
        return _NativeSession(_ext.OrtModel(self._library, str(path), helpers + 1))

    def told(self, failure: str) -> str:
        """Returns onnxruntime's message."""
        return printable(failure)


class _NativeSession(NativeFile):
    """A loaded file behind the C interface."""

    def __init__(self, model: _ext.OrtModel) -> None:
        super().__init__(model)
        self._model = model

    def place_of(self, name: str) -> int:
        """See LoadedFile."""
        return next((place for place, one in enumerate(self.inputs) if one.name == name), -1)

    def backends(self, places: Sequence[tuple[str, int]]) -> _ext.BackendFactory:
        """See LoadedFile."""
        names = [name if place >= 0 else "" for name, place in places]
        return _ext.OrtBackends(self._model, names, self.outputs)
