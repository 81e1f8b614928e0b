"""Runs ONNX models on OpenVINO's CPU kernels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from paddleinfer import _ext
from paddleinfer.backends.onnx.installed import InstalledOpenVino
from paddleinfer.backends.onnx.native_files import NativeFile, opened
from paddleinfer.backends.onnx.python_requests import PythonRequests
from paddleinfer.backends.onnx.runtimes import Driver, LoadedFile
from paddleinfer.resolved_options import ResolvedOptions
from paddleinfer.sentences import printable

__all__ = ["OpenVino"]

# With one stream a compiled model computes on the thread that asks. With several it hands each run to a
# thread of its own and back, which took 35 us where a small model's run takes 10. So those are compiled once
# for each instance.
_MOST_BYTES_APART = 4 << 20

# Where in OpenVINO's sources a message comes from, at the beginning of its lines.
_PLACE = re.compile(r"^(?:Exception from|Check '.*' failed at) .*$", re.MULTILINE)


class OpenVino:
    """OpenVINO, as it is installed here.

    Raises
    ------
    ConfigError
        It is not, or is too old.
    """

    name = "OpenVINO"
    python_call = "InferRequest.infer"
    weight_copies = 2  # as they were read, and in the order that its kernels want

    def __init__(self) -> None:
        self._installed = InstalledOpenVino.find()
        self._library: _ext.OvLibrary | None = None

    @property
    def version(self) -> str:
        """The installed version."""
        return self._installed.version

    def native_problem(self) -> str:
        """Opens its C interface, and says why that cannot be used; empty if it can."""
        self._library, problem = opened(
            f"OpenVINO {self.version}", "libopenvino_c.so", self._installed.library, _ext.OvLibrary
        )
        return problem

    def load(self, path: Path, driver: Driver, resolved: ResolvedOptions) -> LoadedFile:
        """Loads a file for the instances and threads that the options name, and notes how they compute.

        Raises
        ------
        RuntimeError
            It cannot.
        """
        instances, threads = resolved.instances, resolved.cpu_threads
        apart = instances == 1 or path.stat().st_size <= _MOST_BYTES_APART
        model: _NativeModel | PythonRequests
        if driver == "python":
            model = PythonRequests(path, instances, threads, apart=apart)
        else:
            assert self._library is not None
            compiled = _ext.OvModel(self._library, str(path), instances, threads, apart=apart)
            model = _NativeModel(compiled)
        _note_threads(resolved, model, apart)
        return model

    def told(self, failure: str) -> str:
        """Returns OpenVINO's message without the places in its sources."""
        return printable(" ".join(_PLACE.sub("", failure).split()) or failure)


def _note_threads(resolved: ResolvedOptions, model: _NativeModel | PythonRequests, apart: bool) -> None:
    streams, threads = (int(model.property(name)) for name in ("NUM_STREAMS", "INFERENCE_NUM_THREADS"))
    each = max(1, threads // max(1, streams))
    if apart:
        helpers = f", and {each - 1} of OpenVINO's help it" if each > 1 else ""
        note = f"each instance computes on its own thread{helpers}"
    else:
        note = (
            f"{streams} streams of OpenVINO's compute, of {each} {'thread' if each == 1 else 'threads'} each"
        )
    if each < resolved.cpu_threads:
        note += f"; OpenVINO takes no more than {each}, for it counts the cores"
    resolved.note("cpu_threads", note)
    if apart and resolved.instances > 1:
        weights = "the weights are few, so each instance has a compiled model of its own"
    else:
        weights = "one compiled model, which holds the weights once, serves all instances"
    resolved.note("share_weights", weights)
    if not apart and streams < resolved.instances:
        resolved.add_note("instances", f"OpenVINO computes {streams} at a time, for it counts the cores")


class _NativeModel(NativeFile):
    """A compiled model behind the C interface."""

    def __init__(self, model: _ext.OvModel) -> None:
        super().__init__(model)
        self._model = model

    def property(self, name: str) -> str:
        """Returns what is in force, as OpenVINO writes it."""
        return self._model.property(name)

    def place_of(self, name: str) -> int:
        """See LoadedFile."""
        return self._model.input_index(name)

    def backends(self, places: Sequence[tuple[str, int]]) -> _ext.BackendFactory:
        """See LoadedFile."""
        return _ext.OvBackends(self._model, places)
