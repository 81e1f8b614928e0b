"""tritonclient's two HTTP clients behind one face, and requests for the tests' models."""

from __future__ import annotations

import asyncio
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
FIRST = np.arange(16, dtype="int32").reshape(1, 16)
SECOND = np.full((1, 16), 3, "int32")


class AioClient:
    """The asyncio client, called as the other one is."""

    def __init__(self, url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = self._loop.run_until_complete(self._made(url, options))

    async def _made(self, url: str, options: dict[str, Any]) -> Any:
        return triton_aio.InferenceServerClient(url, **options)  # wants a running loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **options: self._loop.run_until_complete(method(*args, **options))

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


CLIENTS = {"sync": triton.InferenceServerClient, "aio": AioClient}


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


def refusal(status: int, call: Callable[..., Any], *args: Any, **options: Any) -> str:
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
