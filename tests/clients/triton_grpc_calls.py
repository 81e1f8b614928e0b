"""tritonclient's two gRPC clients behind one interface, and requests for the tests' models."""

from __future__ import annotations

import functools
import queue
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from triton_calls import FIRST, SECOND, AioClient
from tritonclient.grpc import service_pb2
from tritonclient.utils import np_to_triton_dtype

# Longer than anything here takes: reaching it is a failure.
PATIENCE_S = 300.0

CLIENTS = {
    "sync": triton.InferenceServerClient,
    "aio": functools.partial(AioClient, triton_aio.InferenceServerClient),
}


def tensor(name: str, array: np.ndarray) -> Any:
    """An input as the client makes it of an array."""
    given = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array)
    return given


def pair(first: np.ndarray = FIRST, second: np.ndarray = SECOND) -> list[Any]:
    """Both inputs of `simple`."""
    return [tensor("INPUT0", first), tensor("INPUT1", second)]


def wanted(*names: str, **options: Any) -> list[Any]:
    return [triton.InferRequestedOutput(name, **options) for name in names]


def typed_tensor(name: str, shape: tuple[int, ...], datatype: str, **contents: Any) -> Any:
    """An input whose numbers stand in the message, one by one: the clients send none such."""
    return service_pb2.ModelInferRequest.InferInputTensor(
        name=name,
        shape=shape,
        datatype=datatype,
        contents=service_pb2.InferTensorContents(**contents),
    )


def typed_pair(first: np.ndarray = FIRST, second: np.ndarray = SECOND) -> list[Any]:
    return [
        typed_tensor(name, array.shape, "INT32", int_contents=array.reshape(-1).tolist())
        for name, array in (("INPUT0", first), ("INPUT1", second))
    ]


class Answers:
    """What the callbacks of a client get: results and errors, in the order that they came."""

    def __init__(self) -> None:
        self._came: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()

    def __call__(self, result: Any, error: Any) -> None:
        self._came.put((result, error))

    def next(self) -> tuple[Any, Any]:
        return self._came.get(timeout=PATIENCE_S)

    def result(self) -> Any:
        result, error = self.next()
        assert error is None, error
        return result

    def error(self) -> Any:
        result, error = self.next()
        assert result is None
        return error

    def results(self, count: int) -> dict[str, Any]:
        """So many results, by the ids of their requests."""
        came = [self.result() for _ in range(count)]
        return {result.get_response().id: result for result in came}
