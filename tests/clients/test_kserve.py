"""KServe's InferenceRESTClient, version 2 of the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from kserve_calls import DATATYPES, FIRST, SECOND, simple, tensor

T = TypeVar("T")


def run(url: str, talk: Callable[[InferenceRESTClient, str], Awaitable[T]], **options: Any) -> T:
    """What is said with a client of this server."""

    async def whole() -> T:
        async with InferenceRESTClient(RESTConfig(protocol="v2", **options)) as client:
            return await talk(client, f"http://{url}")

    return asyncio.run(whole())


def infer(url: str, request: InferRequest, model: str = "simple") -> Any:
    return run(url, lambda client, base: client.infer(base, request, model_name=model))


def refusal(url: str, status: int, request: InferRequest, model: str = "simple") -> str:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        infer(url, request, model)
    assert caught.value.response.status_code == status
    return str(caught.value)


def test_the_server_and_its_models_are_live_and_ready(url: str) -> None:
    assert run(url, lambda client, base: client.is_server_live(base)) is True
    assert run(url, lambda client, base: client.is_server_ready(base)) is True
    assert run(url, lambda client, base: client.is_model_ready(base, "simple")) is True
    assert run(url, lambda client, base: client.is_model_ready(base, "nobody")) is False


@pytest.mark.parametrize("binary_out", [True, False], ids=["binary-out", "json-out"])
@pytest.mark.parametrize("binary_in", [True, False], ids=["binary-in", "json-in"])
def test_a_request_is_inferred(url: str, binary_in: bool, binary_out: bool) -> None:
    request = simple(binary=binary_in, request_id="mine", parameters={"binary_data_output": binary_out})
    response = infer(url, request)
    assert response.id == "mine"
    assert response.model_name == "simple"
    sums, differences = response.outputs
    assert (sums.name, differences.name) == ("OUTPUT0", "OUTPUT1")
    np.testing.assert_array_equal(sums.as_numpy(), FIRST + SECOND)
    np.testing.assert_array_equal(differences.as_numpy(), FIRST - SECOND)


@pytest.mark.parametrize(
    ("dtype", "binary"),
    # The client sends FP16 in binary only.
    [(dtype, binary) for dtype in DATATYPES for binary in (True, False) if binary or dtype != "float16"],
)
def test_every_datatype_of_the_client_goes_both_ways(url: str, dtype: str, binary: bool) -> None:
    x = np.array([[0, 1, 2], [3, 4, 100]]).astype(dtype)
    inputs = [tensor("x", x, DATATYPES[dtype], binary=binary)]
    request = InferRequest("same", inputs, parameters={"binary_data_output": binary})
    (output,) = infer(url, request, f"same_{dtype}").outputs
    assert output.datatype == DATATYPES[dtype]
    got = output.as_numpy()
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, x.reshape(2, 3, 1))


def test_only_wanted_outputs_come(url: str) -> None:
    wanted = [RequestedOutput("OUTPUT1", {"binary_data": True})]
    (output,) = infer(url, simple(request_outputs=wanted)).outputs
    assert output.name == "OUTPUT1"
    np.testing.assert_array_equal(output.as_numpy(), FIRST - SECOND)


def test_a_plain_dict_is_inferred(url: str) -> None:
    x = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [[1.5, 2, 3]]}
    response = run(url, lambda client, base: client.infer(base, {"inputs": [x]}, model_name="same_float32"))
    assert response.outputs[0].data == [1.5, 2, 3]


def test_refusals_carry_the_servers_sentence(url: str) -> None:
    assert "Request for unknown model 'nobody'" in refusal(url, 404, simple(), "nobody")
    assert "INPUT0" in refusal(url, 400, simple(), "same_float32")
    texts = InferInput("x", [1, 3], "BYTES", ["a", "b", "c"])
    assert "BYTES" in refusal(url, 400, InferRequest("same", [texts]), "same_float32")


def test_a_server_that_is_not_there_is_said_so(url: str) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="there is no /elsewhere/v2/health/ready"):
        run(url, lambda client, base: client.is_server_ready(base + "/elsewhere"))


def test_the_documented_examples_work(
    documented: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    examples = documented("from kserve")
    assert len(examples) == 1
    for example in examples:
        exec(example, {})
        assert "30" in capsys.readouterr().out
