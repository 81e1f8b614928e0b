"""Services over gRPC: models with BYTES both ways, raw and in typed contents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from engine_helpers import engine_of
from google.protobuf.json_format import MessageToDict
from grpc_helpers import Served, failure, serving
from string_services import Backwards, SimpleString, packed

FIRST, SECOND = [b"%d" % number for number in range(16)], [b"1"] * 16
SUMS = [b"%d" % (number + 1) for number in range(16)]
DIFFERENCES = [b"%d" % (number - 1) for number in range(16)]
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    services = {"simple_string": SimpleString({}), "backwards": Backwards({})}
    with engine_of() as engine, serving(engine, services) as made:
        yield made


def tensor(name: str, shape: list[int], *contents: bytes) -> dict[str, Any]:
    typed = {"contents": {"bytes_contents": contents}} if contents else {}
    return {"name": name, "datatype": "BYTES", "shape": shape, **typed}


def strings(*, typed: bool) -> dict[str, Any]:
    inputs = [
        tensor(name, [1, 16], *(given if typed else ()))
        for name, given in (("INPUT0", FIRST), ("INPUT1", SECOND))
    ]
    raw = {} if typed else {"raw_input_contents": [packed(*FIRST), packed(*SECOND)]}
    return {"model_name": "simple_string", "inputs": inputs, **raw}


@pytest.mark.parametrize("typed", [True, False], ids=["typed", "raw"])
def test_strings_go_both_ways(server: Served, typed: bool) -> None:
    answer = server.infer(**strings(typed=typed))
    assert [(one.name, one.datatype, list(one.shape)) for one in answer.outputs] == [
        ("OUTPUT0", "BYTES", [1, 16]),
        ("OUTPUT1", "BYTES", [1, 16]),
    ]
    assert list(answer.raw_output_contents) == [packed(*SUMS), packed(*DIFFERENCES)]


def test_a_stream_of_strings_is_answered_in_order(server: Served) -> None:
    requests = [
        {"model_name": "backwards", "inputs": [tensor("data", [1], b"%d" % number)]}
        for number in range(10, 30)
    ]
    answers = [one.infer_response.raw_output_contents[0] for one in server.stream(requests)]
    assert answers == [packed((b"%d" % number)[::-1]) for number in range(10, 30)]


@pytest.mark.parametrize(
    ("given", "raw", "sentence"),
    [
        (tensor("data", [2], b"a"), (), "1 elements in its bytes_contents"),
        (tensor("data", [1]), (b"\xff\xff\xff\xff",), "hold 0 elements"),
        (tensor("data", [1]), (packed(b"a", b"b"),), "bytes more than its elements"),
        (tensor("data", [20_000], *[b""] * 20_000), (), "raw_input_contents"),
        (
            {"name": "data", "datatype": "BYTES", "shape": [1], "contents": {"int_contents": [1]}},
            (),
            "0 elements",
        ),
    ],
)
def test_what_is_no_tensor_of_bytes_is_refused(server: Served, given: Any, raw: Any, sentence: str) -> None:
    asked = {"model_name": "backwards", "inputs": [given], "raw_input_contents": raw}
    status, message = failure(lambda: server.infer(**asked))
    assert status == INVALID and sentence in message
    server.still_answers()


def test_an_error_of_the_service_is_its_sentence(server: Served) -> None:
    asked = strings(typed=True)
    asked["inputs"][0]["contents"]["bytes_contents"] = [b"one"] * 16
    status, message = failure(lambda: server.infer(**asked))
    assert status == grpc.StatusCode.INTERNAL
    assert message == "the service simple_string failed in handle (ValueError); its log says why"


def test_models_of_paddle_still_take_no_strings(server: Served) -> None:
    asked = {"model_name": "m", "inputs": [tensor("x", [1], b"a")]}
    assert "Paddle's models take no strings" in failure(lambda: server.infer(**asked))[1]


def test_a_service_says_what_it_is_as_a_model_does(server: Served) -> None:
    metadata = MessageToDict(server.call("ModelMetadata", name="simple_string"))
    assert metadata["inputs"][0] == {"name": "INPUT0", "datatype": "BYTES", "shape": ["-1", "16"]}
    config = MessageToDict(server.call("ModelConfig", name="simple_string"))["config"]
    assert (
        config["input"][0]["dataType" if "dataType" in config["input"][0] else "data_type"] == "TYPE_STRING"
    )
    assert server.call("ModelReady", name="simple_string").ready
    server.infer(**strings(typed=True))
    stats = server.call("ModelStatistics", name="simple_string").model_stats
    assert stats[0].inference_stats.success.count >= 1
    assert [one.name for one in server.call("RepositoryIndex").models] == ["m", "simple_string", "backwards"]
