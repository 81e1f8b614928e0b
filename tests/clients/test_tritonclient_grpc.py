"""Both gRPC clients of tritonclient: their questions about a server and its models, and inference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from triton_calls import (
    DATATYPES,
    DTYPES,
    FIRST,
    MANY,
    SECOND,
    AioClient,
    assert_sum_and_difference,
)
from triton_grpc_calls import CLIENTS, Answers, pair, tensor, wanted
from tritonclient.grpc import model_config_pb2


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, grpc_url: str) -> Iterator[Any]:
    client = CLIENTS[request.param](grpc_url)
    yield client
    client.close()


def names_of(tensors: Any) -> list[str]:
    return [one.name for one in tensors]


# What they ask about


def test_the_server_and_its_models_are_live_and_ready(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.is_model_ready("simple", "1")
    assert not client.is_model_ready("nobody")
    assert not client.is_model_ready("simple", "2")


def test_the_server_says_what_it_is_and_has(client: Any) -> None:
    metadata = client.get_server_metadata()
    assert metadata.name == "paddleinfer"
    assert metadata.version
    assert {"model_configuration", "statistics"} <= set(metadata.extensions)
    assert "model_repository" not in metadata.extensions


def test_a_model_says_its_inputs_and_outputs(client: Any) -> None:
    for version in ("", "1"):
        metadata = client.get_model_metadata("simple", version)
        assert metadata.name == "simple"
        assert list(metadata.versions) == ["1"]
        assert [(one.name, one.datatype, list(one.shape)) for one in metadata.inputs] == [
            (name, "INT32", [-1, 16]) for name in ("INPUT0", "INPUT1")
        ]
        assert names_of(metadata.outputs) == ["OUTPUT0", "OUTPUT1"]


def test_a_model_says_its_configuration(client: Any) -> None:
    config = client.get_model_config("simple").config
    assert config.name == "simple"
    assert config.max_batch_size == 32
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [
        (name, model_config_pb2.TYPE_INT32, [16]) for name in ("INPUT0", "INPUT1")
    ]


def test_answers_come_as_json_too(client: Any) -> None:
    assert client.get_server_metadata(as_json=True)["name"] == "paddleinfer"
    assert client.get_model_metadata("simple", as_json=True)["name"] == "simple"
    assert client.get_model_config("simple", as_json=True)["config"]["max_batch_size"] == 32


@pytest.mark.parametrize("dtype", DTYPES)
def test_metadata_names_every_datatype(client: Any, dtype: str) -> None:
    metadata = client.get_model_metadata(f"same_{dtype}")
    assert [one.datatype for one in (*metadata.inputs, *metadata.outputs)] == [DATATYPES[dtype]] * 2
    (given,) = client.get_model_config(f"same_{dtype}").config.input
    assert given.data_type == model_config_pb2.DataType.Value(f"TYPE_{DATATYPES[dtype]}")


def test_statistics_count_requests(client: Any) -> None:
    def count() -> int:
        (stats,) = client.get_inference_statistics("simple").model_stats
        assert stats.name == "simple"
        assert stats.version == "1"
        return int(stats.inference_stats.success.count)

    before = count()
    client.infer("simple", pair())
    assert count() == before + 1
    assert "simple" in names_of(client.get_inference_statistics().model_stats)


def test_the_repository_index_lists_the_models(client: Any) -> None:
    index = {line.name: line for line in client.get_model_repository_index().models}
    assert index["simple"].state == "READY"
    assert {"aliased", *(f"same_{dtype}" for dtype in DTYPES)} < set(index)


# What they infer


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_datatype_goes_both_ways(client: Any, dtype: str) -> None:
    x = np.array([[0, 1, 2], [3, 4, 100]]).astype(DTYPES[dtype])
    result = client.infer(f"same_{dtype}", [tensor("x", x)])
    (output,) = result.get_response().outputs
    assert output.datatype == DATATYPES[dtype]
    got = result.as_numpy(output.name)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, x.reshape(2, 3, 1))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_requests_are_compressed(client: Any, algorithm: str) -> None:
    for first in (FIRST, MANY):
        result = client.infer("simple", pair(first, first), compression_algorithm=algorithm)
        assert_sum_and_difference(result, first, first)


def test_without_wanted_outputs_all_come(client: Any) -> None:
    assert_sum_and_difference(client.infer("simple", pair()))


def test_only_wanted_outputs_come_in_the_order_they_were_asked_for(client: Any) -> None:
    for names in (["OUTPUT1"], ["OUTPUT1", "OUTPUT0"]):
        response = client.infer("simple", pair(), outputs=wanted(*names)).get_response()
        assert names_of(response.outputs) == names


def test_a_version_an_id_a_priority_and_parameters_may_be_given(client: Any) -> None:
    for priority in (0, 1, 2, 7):
        result = client.infer(
            "simple",
            pair(),
            model_version="1",
            request_id=f"request {priority}",
            priority=priority,
            timeout=30_000_000,
            client_timeout=30.0,
            headers={"x-own": "anything"},
            parameters={"of_my_own": "value", "a_number": 1, "a_fraction": 0.5, "a_truth": True},
        )
        assert_sum_and_difference(result)
        response = result.get_response()
        assert (response.id, response.model_name, response.model_version) == (
            f"request {priority}",
            "simple",
            "1",
        )


def test_the_largest_of_each_row_come_as_classes(client: Any) -> None:
    rows = np.stack([np.arange(16), np.arange(16)[::-1]]).astype("int32")
    classes = client.infer("simple", pair(rows, rows), outputs=wanted("OUTPUT0", class_count=2)).as_numpy(
        "OUTPUT0"
    )
    assert classes.shape == (2, 2)
    pairs = [one.decode().split(":") for one in classes.reshape(-1)]
    assert [(float(value), int(at)) for value, at in pairs] == [(30, 15), (28, 14), (30, 0), (28, 1)]


def test_aliases_of_a_serving_directory_are_taken_and_metadata_has_the_real_names(client: Any) -> None:
    metadata = client.get_model_metadata("aliased")
    assert names_of(metadata.inputs) == ["first", "second"]
    real = names_of(metadata.outputs)
    assert_sum_and_difference(client.infer("aliased", pair(), outputs=wanted("OUTPUT0", "OUTPUT1")))
    result = client.infer("aliased", [tensor("first", FIRST), tensor("second", SECOND)])
    np.testing.assert_array_equal(result.as_numpy(real[0]), FIRST + SECOND)


def test_a_message_of_megabytes_goes_both_ways(client: Any) -> None:
    rows = np.arange(4000 * 16, dtype="int32").reshape(4000, 16)  # 256 kB, past HTTP/2's first window
    assert_sum_and_difference(client.infer("simple", pair(rows, rows)), rows, rows)
    # Past the four megabytes that gRPC takes by itself.
    rows = np.arange(40_000 * 16, dtype="int32").reshape(40_000, 16)
    assert_sum_and_difference(client.infer("simple", pair(rows, rows)), rows, rows)


def test_asynchronous_requests_call_back(grpc_url: str) -> None:
    with triton.InferenceServerClient(grpc_url) as client:
        answers = Answers()
        given = {f"{number}": np.full((1 + number % 3, 16), number, "int32") for number in range(32)}
        for name, rows in given.items():
            client.async_infer("simple", pair(rows, rows), answers, request_id=name)
        results = answers.results(len(given))
        for name, rows in given.items():
            assert_sum_and_difference(results[name], rows, rows)


def test_a_failed_request_among_many_fails_alone(grpc_url: str) -> None:
    with triton.InferenceServerClient(grpc_url) as client:
        good, bad = Answers(), Answers()
        for number in range(4):
            client.async_infer("simple", pair(), good, request_id=str(number))
            client.async_infer("nobody", pair(), bad)
        for result in good.results(4).values():
            assert_sum_and_difference(result)
        for _ in range(4):
            assert bad.error().status() == str(grpc.StatusCode.NOT_FOUND)


def test_tasks_of_one_asyncio_client_are_under_way_together(grpc_url: str) -> None:
    client = CLIENTS["aio"](grpc_url)
    assert isinstance(client, AioClient)

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(
            *(client.client.infer("simple", pair(FIRST + number, SECOND)) for number in range(64))
        )

    for number, result in enumerate(client.loop.run_until_complete(all_of_them())):
        assert_sum_and_difference(result, FIRST + number, SECOND)
    client.close()


def test_a_connection_that_is_kept_alive_by_pings_is_kept(grpc_url: str) -> None:
    options = triton.KeepAliveOptions(
        keepalive_time_ms=2**31 - 1,
        keepalive_timeout_ms=20_000,
        keepalive_permit_without_calls=True,
        http2_max_pings_without_data=2,
    )
    with triton.InferenceServerClient(grpc_url, keepalive_options=options) as client:
        assert_sum_and_difference(client.infer("simple", pair()))


def test_the_documented_examples_work(
    documented: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    examples = documented("import tritonclient.grpc")
    assert examples
    for example in examples:
        exec(example, {})
        assert "30" in capsys.readouterr().out
