"""Reflection for a client that knows nothing of the server, and the standard health probe."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from engine_helpers import PATIENCE_S, rows
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_outsider import SERVICE, Outsider
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_server_process import ServerProcess

from paddleinfer.serving.formats.messages import GENERAL_SERVICE, PIPELINE_SERVICE


@pytest.fixture
def outsider(grpc_process: ServerProcess) -> Iterator[Outsider]:
    """It knows nothing yet."""
    with Outsider(grpc_process.address) as outsider:
        yield outsider


def test_the_services_are_listed(outsider: Outsider) -> None:
    assert {SERVICE, GENERAL_SERVICE, PIPELINE_SERVICE, "grpc.health.v1.Health"} <= set(outsider.services)


def test_the_service_is_described_with_its_calls(outsider: Outsider) -> None:
    service = outsider.service()
    calls = {method.name: (method.input_type.name, method.output_type.name) for method in service.methods}
    assert calls == {
        **{
            name: (f"{name}Request", f"{name}Response")
            for name in (
                *("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"),
                *("ModelConfig", "ModelStatistics"),
                *("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
            )
        },
        "ModelStreamInfer": ("ModelInferRequest", "ModelStreamInferResponse"),
    }
    assert [
        method.name for method in service.methods if method.client_streaming or method.server_streaming
    ] == ["ModelStreamInfer"]


def test_messages_are_numbered_as_others_number_them(outsider: Outsider) -> None:
    """As they stand in KServe's and Triton's published files."""
    request = outsider.message("ModelInferRequest").DESCRIPTOR
    assert {field.name: field.number for field in request.fields} == {
        "model_name": 1,
        "model_version": 2,
        "id": 3,
        "parameters": 4,
        "inputs": 5,
        "outputs": 6,
        "raw_input_contents": 7,
    }
    response = outsider.message("ModelInferResponse").DESCRIPTOR
    assert {field.name: field.number for field in response.fields} == {
        "model_name": 1,
        "model_version": 2,
        "id": 3,
        "parameters": 4,
        "outputs": 5,
        "raw_output_contents": 6,
    }


def test_a_client_that_knows_only_the_description_is_served(outsider: Outsider) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 3], "contents": {"fp32_contents": [1.0] * 6}}
    response = outsider.call("ModelInfer", model_name="m", inputs=[tensor])
    (raw,) = response.raw_output_contents
    np.testing.assert_array_equal(np.frombuffer(raw, "float32").reshape(2, 3), 2 * rows(2))
    assert [model.name for model in outsider.call("RepositoryIndex").models] == ["m"]


@pytest.mark.parametrize(
    "question",
    [
        ServerReflectionRequest(file_containing_symbol="inference.Nothing"),
        ServerReflectionRequest(file_by_filename="nothing.proto"),
        ServerReflectionRequest(file_containing_symbol=""),
    ],
)
def test_what_is_not_there_is_not_described(outsider: Outsider, question: ServerReflectionRequest) -> None:
    assert outsider.reflect(question).error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_the_standard_probe_learns_that_the_server_serves(outsider: Outsider) -> None:
    health = HealthStub(outsider.channel)
    for service in ("", SERVICE, GENERAL_SERVICE, PIPELINE_SERVICE):
        answer = health.Check(HealthCheckRequest(service=service), timeout=PATIENCE_S)
        assert answer.status == HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(HealthCheckRequest(service="nobody"), timeout=PATIENCE_S)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_the_standard_probe_may_watch(outsider: Outsider) -> None:
    watched = HealthStub(outsider.channel).Watch(HealthCheckRequest(), timeout=PATIENCE_S)
    assert next(watched).status == HealthCheckResponse.SERVING
    watched.cancel()
