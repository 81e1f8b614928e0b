"""A model without inputs, over HTTP and gRPC, in every form that a request may have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from grpc_helpers import outputs_of as grpc_outputs_of
from grpc_helpers import serving as serving_grpc
from http_helpers import INFER, binary_body, client_of, error_of, json_tensor, outputs_of, serving
from model_exports import Exports
from starlette.testclient import TestClient

import paddleinfer

pytestmark = pytest.mark.paddle3  # the models are exported by it

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def engine(exports: Exports) -> Iterator[paddleinfer.Engine]:
    with paddleinfer.Engine(exports.root / "json" / "no_input", instances=1) as engine:
        yield engine


@pytest.fixture
def wanted(engine: paddleinfer.Engine) -> Arrays:
    return engine.infer({})


@pytest.fixture(scope="module")
def client(engine: paddleinfer.Engine) -> Iterator[TestClient]:
    with client_of(engine) as client:
        yield client


def assert_same(got: Arrays, wanted: Arrays) -> None:
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        # The engine may have found meanwhile that the model is faster without oneDNN: then last bits differ.
        np.testing.assert_allclose(got[name], array, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("document", [{}, {"inputs": []}, {"id": "7", "outputs": []}])
def test_it_answers_a_request_that_gives_none(
    client: TestClient, wanted: Arrays, document: dict[str, Any]
) -> None:
    assert_same(outputs_of(client.post(INFER, json=document)), wanted)


def test_it_answers_in_binary(client: TestClient, wanted: Arrays) -> None:
    body, headers = binary_body({"parameters": {"binary_data_output": True}})
    assert_same(outputs_of(client.post(INFER, content=body, headers=headers)), wanted)


def test_it_answers_on_the_fast_path(engine: paddleinfer.Engine) -> None:
    with serving(engine) as server:
        answer = server.exchange(
            f"POST {INFER} HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        )
    assert answer.startswith(b"HTTP/1.1 200")


def test_inputs_that_it_does_not_have_are_named(client: TestClient) -> None:
    request = {"inputs": [json_tensor("x", np.zeros((1, 3), "float32"))]}
    assert "'x'" in error_of(client.post(INFER, json=request), 400)
    empty = {"Inference-Header-Content-Length": "0"}
    assert "this one has 0" in error_of(client.post(INFER, content=b"1234", headers=empty), 400)


def test_it_is_described_without_any(client: TestClient) -> None:
    assert client.get("/v2/models/m").json()["inputs"] == []
    assert client.get("/v2/models/m/config").json()["input"] == []
    for path in ("ready", "stats", "diagnosis"):
        assert client.get(f"/v2/models/m/{path}").status_code == 200, path
    request = client.get("/openapi.json").json()["components"]["schemas"]["InferRequest"]
    assert request["required"] == [] and request["properties"]["inputs"]["minItems"] == 0


def test_it_answers_over_grpc(engine: paddleinfer.Engine, wanted: Arrays) -> None:
    with serving_grpc(engine) as server:
        assert_same(grpc_outputs_of(server.infer(model_name="m")), wanted)
        (streamed,) = server.stream([{"model_name": "m"}])
        assert_same(grpc_outputs_of(streamed.infer_response), wanted)
