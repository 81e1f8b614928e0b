"""Replicas over gRPC: the calls of the Open Inference Protocol behind Serve's proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from engine_helpers import PATIENCE_S, eventually
from grpc_helpers import Client, failure, outputs_of, raw
from zoo import Zoo

import paddleinfer
from paddleinfer.ray import deployment

pytestmark = pytest.mark.ray


def to(model: str, x: Any) -> dict[str, Any]:
    return {**raw(x=x), "model_name": model}


@pytest.fixture
def client(serve: Any) -> Iterator[Client]:
    with grpc.insecure_channel(serve.grpc_address) as channel:
        yield Client(channel)


def test_answers_and_refusals_are_those_of_the_server(serve: Any, client: Client, zoo: Zoo) -> None:
    serve.run(deployment(zoo.directory("mlp"), name="m").bind())
    x = np.random.default_rng(1).standard_normal((3, 16), dtype=np.float32)
    with paddleinfer.Engine(zoo.directory("mlp"), instances=1) as engine:
        (alone,) = engine.infer({"x": x}).values()

    (given,) = outputs_of(client.infer(**raw(x=x))).values()
    assert np.abs(given - alone).max() <= 1e-5
    assert client.call("ServerLive").live and client.call("ServerReady").ready
    assert client.call("ModelReady", name="m").ready and not client.call("ModelReady", name="other").ready
    assert client.call("ModelMetadata", name="m").inputs[0].name == "x"
    assert client.call("ModelConfig", name="m").config.max_batch_size > 1
    assert client.call("ModelStatistics", name="m").model_stats[0].inference_count == 3

    code, sentence = client.refused(**raw(x=x[:, :3]))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "16" in sentence
    assert client.refused(**to("other", x))[0] is grpc.StatusCode.NOT_FOUND
    damaged = client.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    code, sentence = failure(lambda: damaged(b"\xff", PATIENCE_S))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "ModelInferRequest" in sentence


def test_the_key_is_asked_for(serve: Any, client: Client, zoo: Zoo) -> None:
    serve.run(deployment(zoo.directory("mlp"), name="m", http={"api_key": "secret"}).bind())
    code, sentence = client.refused("ModelMetadata", name="m")
    assert code is grpc.StatusCode.UNAUTHENTICATED and sentence.endswith("authorization: Bearer KEY")
    with_key = (("authorization", "Bearer secret"),)
    assert client.call("ModelMetadata", name="m", metadata=with_key).name == "m"
    assert client.call("ServerLive").live


def test_clients_share_batches_and_are_told_to_come_again(
    client: Client, gated: Callable[..., Any], gate: Any
) -> None:
    handle = gated(max_queue_rows=2)

    def queued() -> int:
        count: int = handle.stats.remote().result(timeout_s=PATIENCE_S)["queued_requests"]
        return count

    x = np.ones((1, 3), np.float32)
    with ThreadPoolExecutor(3) as clients:
        calls = [clients.submit(client.infer, **to("gated", x))]
        assert eventually(gate.reached)
        calls += [clients.submit(client.infer, **to("gated", x)) for _ in range(2)]
        assert eventually(lambda: queued() == 2)
        assert client.refused(**to("gated", x))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        gate.open()
        answers = [call.result(PATIENCE_S) for call in calls]
    assert all((outputs_of(answer)["y"] == 2).all() for answer in answers)
    stats = handle.stats.remote().result(timeout_s=PATIENCE_S)
    assert (stats["executions"], stats["executed_rows"]) == (2, 3)
