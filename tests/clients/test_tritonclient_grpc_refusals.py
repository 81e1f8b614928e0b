"""What tritonclient's gRPC clients are refused: a status, and a sentence that their exception carries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc import StatusCode
from triton_calls import FIRST, SECOND, TEXTS, assert_sum_and_difference, refusal
from triton_grpc_calls import CLIENTS, pair, tensor, wanted


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, grpc_url: str) -> Iterator[Any]:
    client = CLIENTS[request.param](grpc_url)
    yield client
    assert_sum_and_difference(client.infer("simple", pair()))  # whatever was refused
    client.close()


def test_a_model_or_a_version_that_is_not_there_is_not_found(client: Any) -> None:
    for call in (client.get_model_metadata, client.get_model_config, client.get_inference_statistics):
        message = refusal(StatusCode.NOT_FOUND, call, "nobody")
        assert message.startswith("Request for unknown model")
        assert "'nobody'" in message
        assert "simple" in message
    message = refusal(StatusCode.NOT_FOUND, client.infer, "nobody", pair())
    assert message.startswith("Request for unknown model")
    assert "version '2'" in refusal(StatusCode.NOT_FOUND, client.infer, "simple", pair(), "2")


def test_a_name_that_the_model_lacks_is_an_invalid_argument(client: Any) -> None:
    message = refusal(
        StatusCode.INVALID_ARGUMENT,
        client.infer,
        "simple",
        [tensor("INPUT0", FIRST), tensor("INPUT9", SECOND)],
    )
    assert "INPUT9" in message
    message = refusal(StatusCode.INVALID_ARGUMENT, client.infer, "simple", [tensor("INPUT0", FIRST)])
    assert "INPUT1" in message
    message = refusal(StatusCode.INVALID_ARGUMENT, client.infer, "simple", pair(), outputs=wanted("OUTPUT9"))
    assert "OUTPUT9" in message


def test_a_shape_that_does_not_fit_is_an_invalid_argument(client: Any) -> None:
    for first in (FIRST[:, :15], FIRST[0], FIRST[None]):
        inputs = [tensor("INPUT0", first), tensor("INPUT1", SECOND)]
        assert "INPUT0" in refusal(StatusCode.INVALID_ARGUMENT, client.infer, "simple", inputs)
    message = refusal(
        StatusCode.INVALID_ARGUMENT, client.infer, "simple", pair(np.repeat(FIRST, 2, 0), SECOND)
    )
    assert "INPUT" in message


def test_a_datatype_that_does_not_fit_is_an_invalid_argument(client: Any) -> None:
    inputs = [tensor("INPUT0", FIRST.astype("float32")), tensor("INPUT1", SECOND)]
    message = refusal(StatusCode.INVALID_ARGUMENT, client.infer, "simple", inputs)
    assert "INPUT0" in message
    assert "float32" in message


def test_raw_contents_that_lack_bytes_are_an_invalid_argument(client: Any) -> None:
    short = tensor("INPUT0", FIRST)
    short._raw_content = short._raw_content[:-4]
    message = refusal(StatusCode.INVALID_ARGUMENT, client.infer, "simple", [short, tensor("INPUT1", SECOND)])
    assert "INPUT0" in message


def test_texts_are_an_invalid_argument(client: Any) -> None:
    inputs = [tensor("INPUT0", TEXTS), tensor("INPUT1", SECOND)]
    message = refusal(StatusCode.INVALID_ARGUMENT, client.infer, "simple", inputs)
    assert "BYTES" in message
    assert "strings" in message


@pytest.mark.parametrize("sequence", [1000, "a"])
def test_sequences_are_an_invalid_argument(client: Any, sequence: int | str) -> None:
    options = {"sequence_id": sequence, "sequence_start": True, "sequence_end": False}
    message = refusal(StatusCode.INVALID_ARGUMENT, client.infer, "simple", pair(), **options)
    assert "sequences are not offered" in message


def test_shared_memory_is_not_there(client: Any) -> None:
    for call, *arguments in (
        (client.register_system_shared_memory, "region", "/region", 64),
        (client.get_system_shared_memory_status,),
        (client.get_cuda_shared_memory_status,),
        (client.unregister_system_shared_memory,),
        (client.unregister_cuda_shared_memory, "region"),
    ):
        refusal(StatusCode.UNIMPLEMENTED, call, *arguments)


def test_tensors_in_shared_memory_are_an_invalid_argument(client: Any) -> None:
    there = triton.InferInput("INPUT0", [1, 16], "INT32")
    there.set_shared_memory("region", 64)
    inputs = [there, tensor("INPUT1", SECOND)]
    message = refusal(StatusCode.INVALID_ARGUMENT, client.infer, "simple", inputs)
    assert "shared memory is not offered" in message
    (output,) = wanted("OUTPUT0")
    output.set_shared_memory("region", 64)
    message = refusal(StatusCode.INVALID_ARGUMENT, client.infer, "simple", pair(), outputs=[output])
    assert "shared memory is not offered" in message


def test_settings_of_traces_and_logs_are_not_there(client: Any) -> None:
    refusal(StatusCode.UNIMPLEMENTED, client.get_trace_settings)
    refusal(StatusCode.UNIMPLEMENTED, client.get_log_settings)
    refusal(StatusCode.UNIMPLEMENTED, client.update_log_settings, {"log_info": True})


def test_models_are_not_loaded_and_unloaded_without_the_flag(client: Any) -> None:
    for call in (client.load_model, client.unload_model):
        with pytest.raises(triton.InferenceServerException) as caught:
            call("simple")
        assert "--repository-control" in caught.value.message()


def test_a_message_over_the_limit_is_refused(client: Any) -> None:
    ballast = {"ballast": "x" * (13 << 20)}
    message = refusal(StatusCode.RESOURCE_EXHAUSTED, client.infer, "simple", pair(), parameters=ballast)
    assert str(12 << 20) in message
