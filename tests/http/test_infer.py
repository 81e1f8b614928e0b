"""Inference over HTTP: inputs reach the model and its outputs the client, in every form."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from engine_helpers import Gate, echo_engine, engine_of, rows
from http_helpers import INFER, binary_body, binary_tensor, client_of, error_of, json_tensor, outputs_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from starlette.testclient import TestClient
from zoo import Zoo

import paddleinfer
from paddleinfer.models.spec import DTYPES
from paddleinfer.shim.protocol import response
from paddleinfer.shim.protocol.errors import RequestError
from paddleinfer.shim.protocol.request import InferRequest, WantedOutput, parse_request
from paddleinfer.shim.protocol.response import encode_response


@pytest.fixture
def client() -> Iterator[TestClient]:
    with engine_of() as engine, client_of(engine) as client:
        yield client


def np_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


@pytest.mark.parametrize("binary_out", [False, True])
@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_datatype_goes_both_ways_in_both_forms(dtype: str, binary_in: bool, binary_out: bool) -> None:
    x = np.array([[0, 1, 1], [1, 0, 1]]).astype(np_dtype(dtype))
    with echo_engine(dtype) as engine, client_of(engine) as client:
        document = {
            "inputs": [binary_tensor("x", x) if binary_in else json_tensor("x", x)],
            "parameters": {"binary_data_output": binary_out},
        }
        body, headers = binary_body(document, *([x] if binary_in else []))
        y = outputs_of(client.post(INFER, content=body, headers=headers if binary_in else {}))["y"]
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x)


def test_a_real_model_answers_as_in_process(zoo: Zoo) -> None:
    with paddleinfer.Engine(zoo.directory("mlp", zoo.formats[0])) as engine, client_of(engine) as client:
        name = engine.inputs[0].name
        x = np.random.default_rng(1).standard_normal((3, engine.inputs[0].shape[1])).astype("float32")  # type: ignore[index]
        expected = engine.infer({name: x})
        over_json = outputs_of(client.post(INFER, json={"inputs": [json_tensor(name, x)]}))
        body, headers = binary_body(
            {"inputs": [binary_tensor(name, x)], "parameters": {"binary_data_output": True}}, x
        )
        over_binary = outputs_of(client.post(INFER, content=body, headers=headers))
    for output, values in expected.items():
        np.testing.assert_allclose(over_json[output], values, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(over_binary[output], values, rtol=1e-5, atol=1e-6)


def test_data_may_be_nested_as_the_shape_says(client: TestClient) -> None:
    x = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [[1, 2, 3], [4, 5, 6.5]]}
    y = outputs_of(client.post(INFER, json={"inputs": [x]}))["y"]
    np.testing.assert_array_equal(y, np.array([[2, 4, 6], [8, 10, 13]], "float32"))


def test_a_raw_binary_request_is_one_row_and_its_answer_binary(client: TestClient) -> None:
    response = client.post(INFER, content=rows().tobytes(), headers={"Inference-Header-Content-Length": "0"})
    assert "inference-header-content-length" in response.headers
    np.testing.assert_array_equal(outputs_of(response)["y"], rows(value=2))


def test_a_raw_binary_request_takes_a_free_dimension_from_its_size() -> None:
    with echo_engine("int16", (-1, -1, 2)) as engine, client_of(engine) as client:
        x = np.arange(8, dtype="int16")
        headers = {"Inference-Header-Content-Length": "0"}
        y = outputs_of(client.post(INFER, content=x.tobytes(), headers=headers))["y"]
        assert y.shape == (1, 4, 2)
        assert "3 bytes" in error_of(client.post(INFER, content=b"abc", headers=headers), 400)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "raw deflate", "identity"])
def test_a_compressed_request_is_understood(client: TestClient, encoding: str) -> None:
    body, headers = binary_body({"inputs": [binary_tensor("x", rows(9))]}, rows(9))
    raw = zlib.compressobj(wbits=-15)
    packed = {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "raw deflate": raw.compress(body) + raw.flush(),
        "identity": body,
    }[encoding]
    headers["Content-Encoding"] = encoding.rsplit(maxsplit=1)[-1]
    np.testing.assert_array_equal(
        outputs_of(client.post(INFER, content=packed, headers=headers))["y"], rows(9, 2)
    )


@pytest.mark.parametrize("accepted", ["gzip", "deflate", "br, gzip;q=0.5", "gzip;q=0, deflate"])
def test_a_response_comes_compressed_where_the_client_takes_it(client: TestClient, accepted: str) -> None:
    x = rows(400)
    response = client.post(
        INFER, json={"inputs": [json_tensor("x", x)]}, headers={"Accept-Encoding": accepted}
    )
    expected = "deflate" if "deflate" in accepted else "gzip"
    assert response.headers["content-encoding"] == expected
    np.testing.assert_array_equal(outputs_of(response)["y"], x * 2)


@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "gzip;q=none"])
def test_a_response_comes_as_it_is_where_the_client_does_not(client: TestClient, accepted: str) -> None:
    response = client.post(
        INFER, json={"inputs": [json_tensor("x", rows(400))]}, headers={"Accept-Encoding": accepted}
    )
    assert "content-encoding" not in response.headers


def test_large_bodies_are_unpacked_and_packed_off_the_loop() -> None:
    x = np.random.default_rng(2).standard_normal((1, 200_000)).astype("float32")
    with echo_engine(shape=(-1, -1)) as engine, client_of(engine) as client:
        body, headers = binary_body(
            {"inputs": [binary_tensor("x", x)], "parameters": {"binary_data_output": True}}, x
        )
        headers |= {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
        response = client.post(INFER, content=gzip.compress(body, 1), headers=headers)
    assert response.headers["content-encoding"] == "gzip"
    np.testing.assert_array_equal(outputs_of(response)["y"], x)


def test_the_id_comes_back_and_the_model_is_named(client: TestClient) -> None:
    answer = client.post(INFER, json={"id": "π-7", "inputs": [json_tensor("x", rows())]}).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("π-7", "m", "1")
    assert "id" not in client.post(INFER, json={"inputs": [json_tensor("x", rows())]}).json()


def test_only_the_outputs_asked_for_come_in_the_order_asked() -> None:
    def both(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"a": inputs["x"] + 1, "b": inputs["x"] - 1}

    with (
        paddleinfer.Engine.from_callable(both, {"x": ("float32", (-1, 3))}, ["a", "b"]) as engine,
        client_of(engine) as client,
    ):

        def names(outputs: list[dict[str, Any]] | None) -> list[str]:
            document: dict[str, Any] = {"inputs": [json_tensor("x", rows())]}
            if outputs is not None:
                document["outputs"] = outputs
            return list(outputs_of(client.post(INFER, json=document)))

        assert names(None) == ["a", "b"]
        assert names([]) == ["a", "b"]
        assert names([{"name": "b"}, {"name": "a", "parameters": {"binary_data": True}}]) == ["b", "a"]
        assert names([{"name": "b"}]) == ["b"]
        twice = {"inputs": [json_tensor("x", rows())], "outputs": [{"name": "a"}, {"name": "a"}]}
        assert "twice" in error_of(client.post(INFER, json=twice), 400)


def test_binary_data_of_an_output_overrides_the_request(client: TestClient) -> None:
    document = {
        "inputs": [json_tensor("x", rows())],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
    }
    response = client.post(INFER, json=document)
    assert response.json()["outputs"][0]["data"] == [2.0, 2.0, 2.0]


def test_classification_gives_the_largest_first_as_text(client: TestClient) -> None:
    x = np.array([[1, 3, 2], [5, 4, 6]], "float32")
    outputs = [{"name": "y", "parameters": {"classification": 2}}]
    answer = client.post(INFER, json={"inputs": [json_tensor("x", x)], "outputs": outputs}).json()["outputs"][
        0
    ]
    assert answer["datatype"] == "BYTES"
    assert answer["shape"] == [2, 2]
    assert answer["data"] == ["6.000000:1", "4.000000:2", "12.000000:2", "10.000000:0"]
    outputs[0]["parameters"] |= {"binary_data": True}  # type: ignore[operator]
    response = client.post(INFER, json={"inputs": [json_tensor("x", x)], "outputs": outputs})
    rest = response.content[int(response.headers["inference-header-content-length"]) :]
    assert rest.startswith(b"\x0a\x00\x00\x006.000000:1\x0a\x00\x00\x00")


def test_what_json_cannot_say_is_null_there_and_itself_in_binary() -> None:
    x = np.array([[np.nan, np.inf, 1]], "float32")
    with echo_engine() as engine, client_of(engine) as client:
        document = {"inputs": [binary_tensor("x", x)], "parameters": {"binary_data_output": True}}
        body, headers = binary_body(document, x)
        np.testing.assert_array_equal(outputs_of(client.post(INFER, content=body, headers=headers))["y"], x)
        body, headers = binary_body({"inputs": [binary_tensor("x", x)]}, x)
        answer = client.post(INFER, content=body, headers=headers).json()
        assert answer["outputs"][0]["data"] == [None, None, 1.0]


@pytest.mark.parametrize(("given", "priority"), [(0, 1), (1, 0), (2, 1), (3, 2), (99, 2)])
def test_the_protocols_priorities_become_the_engines_classes(given: int, priority: int) -> None:
    body = b'{"parameters":{"priority":%d},"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'
    assert parse_request(body % given, {}, ()).priority == priority


@pytest.mark.parametrize("body", [b"{}", b'{"inputs":[]}', b'{"inputs":[],"id":"7"}'])
@pytest.mark.parametrize("binary", [False, True])
def test_a_request_may_have_no_inputs(body: bytes, binary: bool) -> None:
    headers = {b"inference-header-content-length": b"%d" % len(body)} if binary else {}
    assert parse_request(body, headers, ()).inputs == {}


def test_a_raw_binary_request_needs_a_model_with_an_input() -> None:
    with pytest.raises(RequestError, match="models with one input, and this one has 0"):
        parse_request(b"1234", {b"inference-header-content-length": b"0"}, ())


def test_a_deadline_that_passes_is_a_gateway_timeout() -> None:
    gate = Gate()
    with engine_of(gate) as engine, client_of(engine) as client:
        document = {"inputs": [json_tensor("x", rows())], "parameters": {"timeout": 1000}}
        assert "0.001 s" in error_of(client.post(INFER, json=document), 504)
        gate.open()


def test_a_model_that_raises_is_an_error_of_the_server_with_its_reason() -> None:
    def fail(inputs: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("no such luck")

    with engine_of(fail) as engine, client_of(engine) as client:
        response = client.post(INFER, json={"inputs": [json_tensor("x", rows())]})
        assert "no such luck" in error_of(response, 500)


def test_a_full_queue_says_when_to_come_back() -> None:
    gate = Gate()
    with engine_of(gate, max_queue_rows=1, batchable=True) as engine, client_of(engine) as client:
        futures = [engine.submit({"x": rows()})]
        gate.wait_entered()
        futures.append(engine.submit({"x": rows()}))
        response = client.post(INFER, json={"inputs": [json_tensor("x", rows())]})
        assert "waiting" in error_of(response, 429)
        assert int(response.headers["retry-after"]) >= 1
        gate.open()
        for future in futures:
            future.result()


# -- properties


@given(
    hnp.arrays(
        dtype=st.sampled_from(["float32", "float64", "int8", "int64", "uint8", "bool"]),
        shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=5),
        elements=None,
    ),
    st.booleans(),
)
def test_an_input_is_read_as_it_was_written(array: np.ndarray[Any, Any], binary: bool) -> None:
    if not binary and array.dtype.kind == "f":
        array = np.nan_to_num(array, nan=0, posinf=1, neginf=-1)
    tensor = binary_tensor("x", array) if binary else json_tensor("x", array)
    body, headers = binary_body({"inputs": [tensor]}, *([array] if binary else []))
    lowered = {name.lower().encode(): value.encode() for name, value in headers.items()} if binary else {}
    read = parse_request(body, lowered, ()).inputs["x"]
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@given(
    hnp.arrays(
        dtype=st.sampled_from(["float32", "int64", "uint8", "bool"]), shape=hnp.array_shapes(max_side=5)
    ),
    st.booleans(),
)
def test_an_output_is_written_so_that_it_reads_the_same(array: np.ndarray[Any, Any], binary: bool) -> None:
    if array.dtype.kind == "f":
        array = np.nan_to_num(array, nan=0, posinf=1, neginf=-1)
    request = InferRequest({}, [WantedOutput("y", binary)], False, None, 1, None)
    body, json_bytes = encode_response("m", "1", request, {"y": array})
    assert (json_bytes is not None) == binary
    as_input = body.replace(b'"outputs":', b'"inputs":', 1)
    headers = {} if json_bytes is None else {b"inference-header-content-length": b"%d" % (json_bytes - 1)}
    np.testing.assert_array_equal(parse_request(as_input, headers, ()).inputs["y"], array)


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("shape", [(3, 1000), (40, 20), (1, 7), (2, 0), (0, 5)])
def test_the_largest_of_long_rows_are_found_part_by_part(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], count: int
) -> None:
    monkeypatch.setattr(response, "_SORTED_ELEMENTS", 50)
    numbers = np.random.default_rng(1).integers(-9, 9, shape).astype(np.float32)  # many are equal
    if numbers.size:
        numbers[0, ::7] = np.nan
    texts, _ = response.classified(WantedOutput("y", False, count), numbers)
    order = np.argsort(-numbers.astype(np.float64), axis=1, kind="stable")[:, :count]
    assert texts == [
        f"{numbers[row, place]:f}:{place}" for row, places in enumerate(order) for place in places
    ]


def test_a_long_answer_is_written_in_pieces_as_a_short_one_is_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    results = {"y": rows(50), "n": np.zeros(0, np.int64), "h": rows(3).astype(np.float16), "z": rows(7)}
    for identity, outputs in (
        ("7", None),
        (None, None),
        (None, [WantedOutput("z", True), WantedOutput("y", False)]),
    ):
        request = InferRequest({}, outputs, False, identity, 1, None)
        monkeypatch.setattr(response, "_PIECE_ELEMENTS", 1 << 16)
        monkeypatch.setattr(response, "_LONG_BYTES", 1 << 20)
        at_once = response.encode_response("m", "1", request, results)
        monkeypatch.setattr(response, "_PIECE_ELEMENTS", 4)
        monkeypatch.setattr(response, "_LONG_BYTES", 50)
        assert response.encode_response("m", "1", request, results) == at_once


def test_more_classes_than_an_answer_has_are_refused() -> None:
    with echo_engine(shape=(-1, -1), max_queue_rows=70_000) as engine, client_of(engine) as client:
        x = np.zeros((33_000, 2), np.float32)
        outputs = [{"name": "y", "parameters": {"classification": 2}}]
        body, headers = binary_body({"inputs": [binary_tensor("x", x)], "outputs": outputs}, x)
        message = error_of(client.post(INFER, content=body, headers=headers), 400)
    assert message == (
        "classification of output 'y' asks for 2 of each of 33000 rows, and 65536 in all is the most"
    )
