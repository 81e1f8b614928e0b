"""Drives OpenVINO through its Python interface, where its C interface cannot be used.

Each instance has an infer request of its own; ``infer`` lets go of the GIL while it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddleinfer import _ext
from paddleinfer.backends.onnx.imported import imported
from paddleinfer.backends.onnx.runtimes import NamedTensor
from paddleinfer.sentences import shown

__all__ = ["PythonRequests"]


class PythonRequests:
    """A compiled model, for all instances of an engine.

    Parameters
    ----------
    path
        A .onnx file.
    instances, cpu_threads
        How many compute at a time, and threads inside one.
    apart
        Compile it once for each instance.

    Raises
    ------
    RuntimeError
        OpenVINO cannot be imported, or cannot load it.
    """

    def __init__(self, path: Path, instances: int, cpu_threads: int, *, apart: bool) -> None:
        openvino = imported("openvino")

        core = openvino.Core()
        model = core.read_model(path)
        streams = 1 if apart else instances
        # The same as of _ext/openvino/ov_model.h.
        properties = {
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(streams * cpu_threads),
            "EXECUTION_MODE_HINT": "ACCURACY",
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": "NO",
            "CPU_RUNTIME_CACHE_CAPACITY": "2048",
        }
        self._compiled = [
            core.compile_model(model, "CPU", properties) for _ in range(instances if apart else 1)
        ]
        self._tensor = openvino.Tensor
        first = self._compiled[0]
        self.inputs = [NamedTensor(port.get_any_name(), None) for port in first.inputs]
        self.outputs = [port.get_any_name() for port in first.outputs]

    def property(self, name: str) -> str:
        """Returns what is in force."""
        return str(self._compiled[0].get_property(name))

    def place_of(self, name: str) -> int:
        """See LoadedFile."""
        ports = enumerate(self._compiled[0].inputs)
        return next((place for place, port in ports if name in port.get_names()), -1)

    def backends(self, places: Sequence[tuple[str, int]]) -> _ext.BackendFactory:
        """See LoadedFile."""

        def opened(instance: int) -> Callable[[list[Any]], list[Any]]:
            request = self._compiled[instance % len(self._compiled)].create_infer_request()

            def call(arrays: list[Any]) -> list[Any]:
                for (name, place), array in zip(places, arrays, strict=True):
                    if place >= 0:
                        _refuse_wide(name, array)
                        request.set_input_tensor(place, self._tensor(array, shared_memory=True))
                request.infer()
                return [request.get_output_tensor(place).data for place in range(len(self.outputs))]

            return call

        return _ext.PythonBackends(opened)


def _refuse_wide(name: str, array: np.ndarray[Any, Any]) -> None:
    """OpenVINO's CPU kernels have no integers of 64 bits: it takes the lower 32, and says nothing."""
    if array.dtype != np.int64 or not array.size:
        return
    wide = array[array != array.astype(np.int32)]
    if wide.size:
        raise OverflowError(
            f"input {shown(name)} holds {wide.flat[0]}, and OpenVINO computes with integers of 32 bits"
        )
