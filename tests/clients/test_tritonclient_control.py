"""tritonclient loads and unloads models, where the server lets it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from triton_calls import CLIENTS, assert_sum_and_difference, pair, refusal


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, controlled_url: str) -> Iterator[Any]:
    client = CLIENTS[request.param](controlled_url)
    yield client
    client.close()


def state(client: Any) -> str:
    (line,) = client.get_model_repository_index()
    return str(line["state"])


def test_a_model_is_unloaded_and_loaded_again(client: Any) -> None:
    assert "model_repository" in client.get_server_metadata()["extensions"]
    client.load_model("simple")  # again
    assert state(client) == "READY"
    client.unload_model("simple")
    assert state(client) == "UNAVAILABLE"
    assert not client.is_model_ready("simple")
    assert "unloaded" in refusal(503, client.infer, "simple", pair())
    client.load_model("simple")
    assert client.is_model_ready("simple")
    assert_sum_and_difference(client.infer("simple", pair()))


def test_a_model_is_loaded_with_another_batch_size_until_the_next_load(client: Any) -> None:
    for config, size in (('{"max_batch_size": 16}', 16), ('{"max_batch_size": "8"}', 8), (None, 32)):
        client.load_model("simple", config=config)
        assert client.get_model_config("simple")["max_batch_size"] == size
        assert_sum_and_difference(client.infer("simple", pair()))


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ("{", "JSON"),
        ("[]", "max_batch_size"),
        ('{"backend": "onnxruntime"}', "max_batch_size"),
        ('{"max_batch_size": 16, "backend": "onnxruntime"}', "max_batch_size"),
        ('{"max_batch_size": 0}', "max_batch_size"),
        ('{"max_batch_size": 1.5}', "max_batch_size"),
        ('{"max_batch_size": true}', "max_batch_size"),
    ],
)
def test_a_configuration_that_cannot_be_had_is_400_and_the_model_stays(
    client: Any, config: str, word: str
) -> None:
    message = refusal(400, client.load_model, "simple", config=config)
    assert message.startswith("failed to load 'simple'")
    assert word in message
    assert client.get_model_config("simple")["max_batch_size"] == 32
    assert_sum_and_difference(client.infer("simple", pair()))


def test_a_model_that_is_not_there_cannot_be_loaded(client: Any) -> None:
    assert refusal(404, client.load_model, "nobody").startswith("failed to load 'nobody'")
    assert "nobody" in refusal(404, client.unload_model, "nobody")
