"""KServe's InferenceGRPCClient."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferRequest
from kserve_calls import DATATYPES, FIRST, SECOND, simple, tensor

T = TypeVar("T")


def run(url: str, talk: Callable[[InferenceGRPCClient], Awaitable[T]]) -> T:
    """What is said with a client of this server."""

    async def whole() -> T:
        async with InferenceGRPCClient(url) as client:
            return await talk(client)

    return asyncio.run(whole())


def infer(url: str, request: InferRequest) -> Any:
    return run(url, lambda client: client.infer(request))


def refusal(url: str, code: grpc.StatusCode, request: InferRequest) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        infer(url, request)
    assert caught.value.code() == code
    return str(caught.value.details())


def test_the_server_and_its_models_are_live_and_ready(grpc_url: str) -> None:
    assert run(grpc_url, lambda client: client.is_server_live()) is True
    assert run(grpc_url, lambda client: client.is_server_ready()) is True
    assert run(grpc_url, lambda client: client.is_model_ready("simple")) is True
    assert run(grpc_url, lambda client: client.is_model_ready("nobody")) is False


@pytest.mark.parametrize("binary", [True, False], ids=["raw", "numbers"])
def test_a_request_is_inferred(grpc_url: str, binary: bool) -> None:
    response = infer(grpc_url, simple(binary=binary, request_id="mine"))
    assert response.id == "mine"
    assert response.model_name == "simple"
    sums, differences = response.outputs
    assert (sums.name, differences.name) == ("OUTPUT0", "OUTPUT1")
    np.testing.assert_array_equal(sums.as_numpy(), FIRST + SECOND)
    np.testing.assert_array_equal(differences.as_numpy(), FIRST - SECOND)


@pytest.mark.parametrize(
    ("dtype", "binary"),
    # The client sends FP16 raw only.
    [(dtype, binary) for dtype in DATATYPES for binary in (True, False) if binary or dtype != "float16"],
)
def test_every_datatype_of_the_client_goes_both_ways(grpc_url: str, dtype: str, binary: bool) -> None:
    x = np.array([[0, 1, 2], [3, 4, 100]]).astype(dtype)
    request = InferRequest(f"same_{dtype}", [tensor("x", x, DATATYPES[dtype], binary=binary)])
    (output,) = infer(grpc_url, request).outputs
    assert output.datatype == DATATYPES[dtype]
    got = output.as_numpy()
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, x.reshape(2, 3, 1))


def test_refusals_carry_a_status_and_the_servers_sentence(grpc_url: str) -> None:
    nobody = simple()
    nobody.model_name = "nobody"
    assert "Request for unknown model" in refusal(grpc_url, grpc.StatusCode.NOT_FOUND, nobody)
    other = simple()
    other.model_name = "same_float32"
    assert "INPUT0" in refusal(grpc_url, grpc.StatusCode.INVALID_ARGUMENT, other)
