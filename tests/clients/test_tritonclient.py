"""Both HTTP clients of tritonclient: their questions about a server and its models, and inference."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from triton_calls import (
    CLIENTS,
    DATATYPES,
    DTYPES,
    FIRST,
    MANY,
    SECOND,
    assert_sum_and_difference,
    names_of,
    pair,
    tensor,
    wanted,
)


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, url: str) -> Iterator[Any]:
    client = CLIENTS[request.param](url)
    yield client
    client.close()


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
    assert metadata["name"] == "paddleinfer"
    assert metadata["version"]
    assert {"binary_tensor_data", "model_configuration", "statistics"} <= set(metadata["extensions"])
    assert "model_repository" not in metadata["extensions"]


def test_a_model_says_its_inputs_and_outputs(client: Any) -> None:
    for version in ("", "1"):
        metadata = client.get_model_metadata("simple", version)
        assert metadata["name"] == "simple"
        assert metadata["versions"] == ["1"]
        assert metadata["inputs"] == [
            {"name": name, "datatype": "INT32", "shape": [-1, 16]} for name in ("INPUT0", "INPUT1")
        ]
        assert names_of(metadata["outputs"]) == ["OUTPUT0", "OUTPUT1"]


def test_a_model_says_its_configuration(client: Any) -> None:
    config = client.get_model_config("simple")
    assert config["name"] == "simple"
    assert config["max_batch_size"] == 32
    assert config["input"] == [
        {"name": name, "data_type": "TYPE_INT32", "dims": [16]} for name in ("INPUT0", "INPUT1")
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_metadata_names_every_datatype(client: Any, dtype: str) -> None:
    metadata = client.get_model_metadata(f"same_{dtype}")
    assert [one["datatype"] for one in metadata["inputs"] + metadata["outputs"]] == [DATATYPES[dtype]] * 2


def test_statistics_count_requests(client: Any) -> None:
    def count() -> int:
        (stats,) = client.get_inference_statistics("simple")["model_stats"]
        assert stats["name"] == "simple"
        assert stats["version"] == "1"
        return int(stats["inference_stats"]["success"]["count"])

    before = count()
    client.infer("simple", pair())
    assert count() == before + 1
    assert "simple" in names_of(client.get_inference_statistics()["model_stats"])


def test_the_repository_index_lists_the_models(client: Any) -> None:
    index = {line["name"]: line for line in client.get_model_repository_index()}
    assert index["simple"]["state"] == "READY"
    assert {"aliased", *(f"same_{dtype}" for dtype in DTYPES)} < set(index)


# What they infer


@pytest.mark.parametrize(
    ("dtype", "binary_in"),
    # The client sends BF16 in binary only.
    [(dtype, binary) for dtype in DTYPES for binary in (True, False) if binary or dtype != "bfloat16"],
)
@pytest.mark.parametrize("binary_out", [True, False], ids=["binary-out", "json-out"])
def test_every_datatype_goes_both_ways(client: Any, dtype: str, binary_in: bool, binary_out: bool) -> None:
    x = np.array([[0, 1, 2], [3, 4, 100]]).astype(DTYPES[dtype])
    model = f"same_{dtype}"
    (output,) = names_of(client.get_model_metadata(model)["outputs"])
    result = client.infer(
        model, [tensor("x", x, binary=binary_in)], outputs=wanted(output, binary_data=binary_out)
    )
    got = result.as_numpy(output)
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, x.reshape(2, 3, 1))
    described = result.get_output(output)
    assert described["datatype"] == DATATYPES[dtype]
    assert ("data" in described) is not binary_out


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_bodies_are_compressed_both_ways(client: Any, algorithm: str, binary: bool) -> None:
    for asked, answered in ((algorithm, None), (None, algorithm), (algorithm, algorithm)):
        result = client.infer(
            "simple",
            pair(MANY, MANY, binary=binary),
            outputs=wanted("OUTPUT0", "OUTPUT1", binary_data=binary),
            request_compression_algorithm=asked,
            response_compression_algorithm=answered,
        )
        assert_sum_and_difference(result, MANY, MANY)


def test_without_wanted_outputs_all_come(client: Any) -> None:
    assert_sum_and_difference(client.infer("simple", pair()))


def test_only_wanted_outputs_come_in_the_order_they_were_asked_for(client: Any) -> None:
    for names in (["OUTPUT1"], ["OUTPUT1", "OUTPUT0"]):
        response = client.infer("simple", pair(), outputs=wanted(*names)).get_response()
        assert names_of(response["outputs"]) == names


def test_one_input_and_one_output_may_be_binary_and_the_others_not(client: Any) -> None:
    inputs = [tensor("INPUT0", FIRST, binary=False), tensor("INPUT1", SECOND)]
    outputs = [*wanted("OUTPUT0"), *wanted("OUTPUT1", binary_data=False)]
    result = client.infer("simple", inputs, outputs=outputs)
    assert_sum_and_difference(result)
    assert "data" not in result.get_output("OUTPUT0")
    assert "data" in result.get_output("OUTPUT1")


def test_a_version_an_id_a_priority_and_query_parameters_may_be_given(client: Any) -> None:
    for priority in (0, 1, 2, 7):
        result = client.infer(
            "simple",
            pair(),
            model_version="1",
            request_id=f"request {priority}",
            priority=priority,
            timeout=30_000_000,
            query_params={"a": 1},
            headers={"X-Own": "anything"},
            parameters={"of_my_own": "value"},
        )
        assert_sum_and_difference(result)
        assert result.get_response()["id"] == f"request {priority}"


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_the_largest_of_each_row_come_as_classes(client: Any, binary: bool) -> None:
    rows = np.stack([np.arange(16), np.arange(16)[::-1]]).astype("int32")
    result = client.infer(
        "simple", pair(rows, rows), outputs=wanted("OUTPUT0", class_count=2, binary_data=binary)
    )
    classes = result.as_numpy("OUTPUT0")
    assert classes.shape == (2, 2)
    pairs = [one.decode() if isinstance(one, bytes) else one for one in classes.reshape(-1)]
    assert [(float(value), int(at)) for value, at in (one.split(":") for one in pairs)] == [
        (30, 15),
        (28, 14),
        (30, 0),
        (28, 1),
    ]


def test_aliases_of_a_serving_directory_are_taken_and_metadata_has_the_real_names(client: Any) -> None:
    metadata = client.get_model_metadata("aliased")
    assert names_of(metadata["inputs"]) == ["first", "second"]
    real = names_of(metadata["outputs"])
    assert_sum_and_difference(client.infer("aliased", pair(), outputs=wanted("OUTPUT0", "OUTPUT1")))
    result = client.infer("aliased", [tensor("first", FIRST), tensor("second", SECOND)])
    np.testing.assert_array_equal(result.as_numpy(real[0]), FIRST + SECOND)


def test_a_body_that_the_client_made_goes_over_any_connection(url: str) -> None:
    static = triton.InferenceServerClient
    body, json_size = static.generate_request_body(pair())
    connection = http.client.HTTPConnection(url)
    headers = {"Inference-Header-Content-Length": str(json_size)}
    connection.request("POST", "/v2/models/simple/infer", body, headers)
    response = connection.getresponse()
    length = int(response.headers["Inference-Header-Content-Length"])
    assert_sum_and_difference(static.parse_response_body(response.read(), header_length=length))
    connection.close()


def test_the_documented_examples_work(
    documented: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    examples = documented("import tritonclient.http")
    assert len(examples) == 2
    for example in examples:
        exec(example, {})
        assert "30" in capsys.readouterr().out
