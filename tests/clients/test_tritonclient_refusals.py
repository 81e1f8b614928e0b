"""What tritonclient is refused: a status, and a sentence that its exception carries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from triton_calls import (
    CLIENTS,
    FIRST,
    SECOND,
    TEXTS,
    assert_sum_and_difference,
    pair,
    refusal,
    tensor,
    wanted,
)


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    client = CLIENTS[request.param](url)
    yield client
    assert_sum_and_difference(client.infer("simple", pair()))  # whatever was refused
    client.close()


def test_a_model_or_a_version_that_is_not_there_is_404(client: Any) -> None:
    for call in (client.get_model_metadata, client.get_model_config, client.get_inference_statistics):
        message = refusal(404, call, "nobody")
        assert message.startswith("Request for unknown model 'nobody'")
        assert "simple" in message
    assert refusal(404, client.infer, "nobody", pair()).startswith("Request for unknown model 'nobody'")
    assert "version '2'" in refusal(404, client.infer, "simple", pair(), "2")


def test_a_name_that_the_model_lacks_is_400(client: Any) -> None:
    message = refusal(400, client.infer, "simple", [tensor("INPUT0", FIRST), tensor("INPUT9", SECOND)])
    assert "INPUT9" in message
    assert "INPUT1" in refusal(400, client.infer, "simple", [tensor("INPUT0", FIRST)])
    assert "OUTPUT9" in refusal(400, client.infer, "simple", pair(), outputs=wanted("OUTPUT9"))


def test_a_shape_that_does_not_fit_is_400(client: Any) -> None:
    for first in (FIRST[:, :15], FIRST[0], FIRST[None]):
        message = refusal(400, client.infer, "simple", [tensor("INPUT0", first), tensor("INPUT1", SECOND)])
        assert "INPUT0" in message
    message = refusal(400, client.infer, "simple", pair(np.repeat(FIRST, 2, 0), SECOND))
    assert "INPUT" in message


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_a_datatype_that_does_not_fit_is_400(client: Any, binary: bool) -> None:
    inputs = [tensor("INPUT0", FIRST.astype("float32"), binary=binary), tensor("INPUT1", SECOND)]
    message = refusal(400, client.infer, "simple", inputs)
    assert "INPUT0" in message
    assert "float32" in message


def test_a_body_that_lacks_bytes_is_400(client: Any) -> None:
    short = tensor("INPUT0", FIRST)
    short._raw_data = short._raw_data[:-4]
    assert "INPUT1" in refusal(400, client.infer, "simple", [short, tensor("INPUT1", SECOND)])


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_texts_are_400(client: Any, binary: bool) -> None:
    inputs = [tensor("INPUT0", TEXTS, binary=binary), tensor("INPUT1", SECOND)]
    message = refusal(400, client.infer, "simple", inputs)
    assert "BYTES" in message
    assert "strings" in message


@pytest.mark.parametrize("sequence", [1000, "a"])
def test_sequences_are_400(client: Any, sequence: int | str) -> None:
    options = {"sequence_id": sequence, "sequence_start": True, "sequence_end": False}
    assert "sequences are not offered" in refusal(400, client.infer, "simple", pair(), **options)


def test_shared_memory_is_not_there(client: Any) -> None:
    for call, *arguments in (
        (client.register_system_shared_memory, "region", "/region", 64),
        (client.register_cuda_shared_memory, "region", b"handle", 0, 64),
        (client.get_system_shared_memory_status,),
        (client.get_cuda_shared_memory_status,),
        (client.unregister_system_shared_memory,),
        (client.unregister_cuda_shared_memory, "region"),
    ):
        assert "shared memory is not offered" in refusal(404, call, *arguments)


def test_tensors_in_shared_memory_are_400(client: Any) -> None:
    there = triton.InferInput("INPUT0", [1, 16], "INT32")
    there.set_shared_memory("region", 64)
    message = refusal(400, client.infer, "simple", [there, tensor("INPUT1", SECOND)])
    assert "shared memory is not offered" in message
    output = wanted("OUTPUT0")
    output[0].set_shared_memory("region", 64)
    message = refusal(400, client.infer, "simple", pair(), outputs=output)
    assert "shared memory is not offered" in message


def test_settings_of_traces_and_logs_are_not_there(client: Any) -> None:
    assert "/v2/trace/setting" in refusal(404, client.get_trace_settings)
    assert "/v2/logging" in refusal(404, client.get_log_settings)
    assert "/v2/logging" in refusal(404, client.update_log_settings, {"log_info": True})


def test_models_are_not_loaded_and_unloaded_without_the_flag(client: Any) -> None:
    for call in (client.load_model, client.unload_model):
        assert "--repository-control" in refusal(403, call, "simple")
