"""tritonclient's HTTP clients behind one interface, requests for the tests' models, and their answers."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

# Of every model dtype.
DTYPES = {
    "bool": np.dtype(bool),
    "int8": np.dtype("int8"),
    "int16": np.dtype("int16"),
    "int32": np.dtype("int32"),
    "int64": np.dtype("int64"),
    "uint8": np.dtype("uint8"),
    "float16": np.dtype("float16"),
    "float32": np.dtype("float32"),
    "float64": np.dtype("float64"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
DATATYPES = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "BF16",
}
FIRST = np.arange(16, dtype="int32").reshape(1, 16)
SECOND = np.full((1, 16), 3, "int32")
# A response of fewer bytes is not worth compressing.
MANY = np.arange(64 * 16, dtype="int32").reshape(64, 16)
# A value of its own for each request that `held` is to hold.
KEYS = itertools.count(1)
TEXTS = np.array([[b"a"] * 16], dtype=object)


class AioClient:
    """An asyncio client, called as the other one is."""

    def __init__(self, kind: Callable[..., Any], url: str, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = self.loop.run_until_complete(self._made(kind, url, options))

    async def _made(self, kind: Callable[..., Any], url: str, options: dict[str, Any]) -> Any:
        return kind(url, **options)  # wants a running loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)
        return lambda *args, **options: self.loop.run_until_complete(method(*args, **options))

    def close(self) -> None:
        self.loop.run_until_complete(self.client.close())
        self.loop.close()


CLIENTS = {
    "sync": triton.InferenceServerClient,
    "aio": functools.partial(AioClient, triton_aio.InferenceServerClient),
}


def tensor(name: str, array: np.ndarray, *, binary: bool = True) -> Any:
    """An input as the client makes it of an array."""
    given = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def pair(first: np.ndarray = FIRST, second: np.ndarray = SECOND, *, binary: bool = True) -> list[Any]:
    """Both inputs of `simple`."""
    return [tensor("INPUT0", first, binary=binary), tensor("INPUT1", second, binary=binary)]


def wanted(*names: str, **options: Any) -> list[Any]:
    return [triton.InferRequestedOutput(name, **options) for name in names]


def assert_sum_and_difference(result: Any, first: np.ndarray = FIRST, second: np.ndarray = SECOND) -> None:
    for name, expected in (("OUTPUT0", first + second), ("OUTPUT1", first - second)):
        got = result.as_numpy(name)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


def refusal(status: object, call: Callable[..., Any], *args: Any, **options: Any) -> str:
    """The sentence with which the server refuses a call."""
    with pytest.raises(InferenceServerException) as caught:
        call(*args, **options)
    assert caught.value.status() == str(status), caught.value
    message: str = caught.value.message()
    assert message
    assert "\n" not in message
    return message


def names_of(tensors: Sequence[dict[str, Any]]) -> list[str]:
    return [one["name"] for one in tensors]
