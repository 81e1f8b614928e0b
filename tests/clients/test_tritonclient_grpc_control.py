"""tritonclient loads and unloads models over gRPC, and sends a key if the server requires it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton
from client_servers import served, started
from grpc import StatusCode
from triton_calls import assert_sum_and_difference, refusal
from triton_grpc_calls import CLIENTS, Answers, pair

KEY = "s3cret"


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, controlled_grpc_url: str) -> Iterator[Any]:
    client = CLIENTS[request.param](controlled_grpc_url)
    yield client
    client.close()


def state(client: Any) -> str:
    (line,) = client.get_model_repository_index().models
    return str(line.state)


def test_a_model_is_unloaded_and_loaded_again(client: Any) -> None:
    assert "model_repository" in client.get_server_metadata().extensions
    client.load_model("simple")  # again
    assert state(client) == "READY"
    client.unload_model("simple")
    assert state(client) == "UNAVAILABLE"
    assert not client.is_model_ready("simple")
    assert "unloaded" in refusal(StatusCode.UNAVAILABLE, client.infer, "simple", pair())
    client.load_model("simple")
    assert client.is_model_ready("simple")
    assert_sum_and_difference(client.infer("simple", pair()))


def test_a_model_is_loaded_with_another_batch_size_until_the_next_load(client: Any) -> None:
    for config, size in (('{"max_batch_size": 16}', 16), ('{"max_batch_size": "8"}', 8), (None, 32)):
        client.load_model("simple", config=config)
        assert client.get_model_config("simple").config.max_batch_size == size
        assert_sum_and_difference(client.infer("simple", pair()))


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("{", "JSON"),
        ("[]", "max_batch_size"),
        ('{"max_batch_size": 16, "backend": "onnxruntime"}', "max_batch_size"),
        ('{"max_batch_size": 0}', "max_batch_size"),
    ],
)
def test_a_configuration_that_cannot_be_had_is_an_invalid_argument_and_the_model_stays(
    client: Any, config: str, word: str
) -> None:
    message = refusal(StatusCode.INVALID_ARGUMENT, client.load_model, "simple", config=config)
    assert message.startswith("failed to load 'simple'")
    assert word in message
    assert client.get_model_config("simple").config.max_batch_size == 32
    assert_sum_and_difference(client.infer("simple", pair()))


def test_files_of_a_model_are_not_taken(client: Any) -> None:
    message = refusal(
        StatusCode.INVALID_ARGUMENT,
        client.load_model,
        "simple",
        config="{}",
        files={"file:1/model.json": b"{}"},
    )
    assert message.startswith("failed to load 'simple'")
    assert_sum_and_difference(client.infer("simple", pair()))


def test_a_model_that_is_not_there_cannot_be_loaded(client: Any) -> None:
    message = refusal(StatusCode.NOT_FOUND, client.load_model, "nobody")
    assert message.startswith("failed to load 'nobody'")
    assert "nobody" in refusal(StatusCode.NOT_FOUND, client.unload_model, "nobody")


@pytest.fixture(scope="module")
def locked_url(python: str, models: Path) -> Iterator[str]:
    """Serves `simple` to those who bring the key."""
    with started(*served(python, [models / "simple"], f"--api-key={KEY}")) as addresses:
        yield addresses.grpc


@pytest.mark.parametrize("kind", CLIENTS)
def test_without_the_key_only_health_is_told(kind: str, locked_url: str) -> None:
    client = CLIENTS[kind](locked_url)
    assert client.is_server_live()
    assert client.is_server_ready()
    basic = base64.b64encode(f"user:{KEY}".encode()).decode()
    for headers in (None, {"authorization": "Bearer other"}, {"authorization": f"Basic {basic}"}):
        for call, *arguments in (
            (client.infer, "simple", pair()),
            (client.get_server_metadata,),
            (client.get_model_metadata, "simple"),
            (client.get_model_config, "simple"),
            (client.get_inference_statistics,),
            (client.get_model_repository_index,),
        ):
            message = refusal(StatusCode.UNAUTHENTICATED, call, *arguments, headers=headers)
            assert "authorization" in message.lower()
    headers = {"authorization": f"Bearer {KEY}"}
    assert client.get_server_metadata(headers=headers).name == "paddleinfer"
    assert_sum_and_difference(client.infer("simple", pair(), headers=headers))
    client.close()


def test_a_stream_wants_the_key_once(locked_url: str) -> None:
    with triton.InferenceServerClient(locked_url) as client:
        refused, answered = Answers(), Answers()
        client.start_stream(refused)
        assert refused.error().status() == str(StatusCode.UNAUTHENTICATED)
        client.stop_stream()
        client.start_stream(answered, headers={"authorization": f"Bearer {KEY}"})
        for _ in range(3):
            client.async_stream_infer("simple", pair())
            assert_sum_and_difference(answered.result())
