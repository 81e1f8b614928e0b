"""Requests that get no result: each gets one sentence that says what was wrong."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from engine_helpers import echo_engine, engine_of, rows
from http_helpers import INFER, binary_body, binary_tensor, client_of, error_of, json_tensor, outputs_of
from starlette.testclient import TestClient

import paddleinfer
from paddleinfer.shim.http import asgi_request


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with engine_of() as engine, client_of(engine, max_body_bytes=100_000) as client:
        yield client


def still_answers(client: TestClient) -> None:
    outputs_of(client.post(INFER, json={"inputs": [json_tensor("x", rows())]}))


X = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
DEEP = b'{"inputs":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
DEEPER = b'{"inputs":' + b"[" * 40_000 + b"]" * 40_000 + b"}"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"inputs": [{"name": "\xff"}]}', "not JSON"),
        (b'{"inputs": NaN}', "not JSON"),
        (DEEP, "not JSON"),
        (DEEPER, "8192 is the most"),
        (b"[]", "JSON object"),
        (b"7", "JSON object"),
        (b"{}", "missing input 'x'"),
        (b'{"inputs": []}', "missing input 'x'"),
        (b'{"inputs": null}', '"inputs"'),
        (b'{"inputs": {}}', '"inputs"'),
        (b'{"inputs": [7]}', "must be an object"),
    ],
)
def test_a_body_that_is_no_request_is_refused(client: TestClient, body: bytes, says: str) -> None:
    assert says in error_of(client.post(INFER, content=body), 400)
    still_answers(client)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": None}, '"name"'),
        ({"name": 7}, '"name"'),
        ({"name": "q"}, "q"),
        ({"name": "q" * 1025}, "has 1025 characters, and 1024 is the most"),
        (
            {"parameters": {str(number): 0 for number in range(257)}},
            "'x' has 257 parameters, and 256 is the most",
        ),
        ({"datatype": None}, "datatype"),
        ({"datatype": []}, "datatype"),
        ({"datatype": "FP8"}, "FP8"),
        ({"datatype": "BYTES"}, "strings"),
        ({"shape": None}, "shape"),
        ({"shape": 3}, "shape"),
        ({"shape": [1, "3"]}, "shape"),
        ({"shape": [True, 3]}, "shape"),
        ({"shape": [-1, 3]}, "from 0 up"),
        ({"shape": [1, 4]}, "[1, 4]"),
        ({"shape": [2, 3]}, "[2, 3]"),
        ({"shape": [3]}, "x"),
        ({"shape": [0, 3], "data": []}, "x"),
        ({"shape": [1 << 40, 1 << 40]}, "counted"),
        ({"shape": [1 << 63, 1]}, "shape"),
        ({"shape": [1] * 40}, "40 dimensions"),
        ({"data": None}, "list"),
        ({"data": "123"}, "list"),
        ({"data": [1, 2]}, "2 elements"),
        ({"data": [[1, 2], [3]]}, "nested"),
        ({"data": [[1], [2], [3]]}, "nested"),
        ({"data": ["1", "2", "3"]}, "strings"),
        ({"data": [True, False, True]}, "true or false"),
        ({"data": [1, None, 3]}, "FP32"),
        ({"data": [1, {}, 3]}, "FP32"),
        ({"data": [1.5, 1e39, 3]}, "too large for FP32"),
        ({"data": [1, 1e39, 3]}, "too large for FP32"),
        ({"datatype": "FP16", "data": [1.5, 70000, 3]}, "too large for FP16"),
        ({"data": [1.5, None, 3]}, "FP32"),
        ({"data": [1.5, "2", 3]}, "strings"),
        ({"datatype": "BF16", "data": [1, 3.4e38, 3]}, "too large for BF16"),
        ({"data": [1, True, 3]}, "true or false"),
        ({"data": [[1, [2], 3]]}, "lists"),
        ({"data": ["a" * 30_000, *[""] * 10_000]}, "10001 elements"),
        ({"datatype": "INT32", "data": [1, 2, 3.5]}, "fractions"),
        ({"datatype": "INT8", "data": [1, 2, 300]}, "300"),
        ({"datatype": "UINT8", "data": [-1, 2, 3]}, "-1"),
        ({"datatype": "BOOL", "data": [0, 1, 2]}, "BOOL"),
        ({"parameters": 7}, "parameters"),
        ({"parameters": {"binary_data_size": 12}}, "both"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared memory"),
    ],
)
def test_an_input_that_is_not_right_is_refused(client: TestClient, change: dict[str, Any], says: str) -> None:
    tensor = {**X, **change}
    body = json.dumps({"inputs": [tensor]})
    assert says in error_of(client.post(INFER, content=body), 400)
    still_answers(client)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"id": 7}, '"id"'),
        ({"parameters": []}, "parameters"),
        ({"parameters": {"priority": "high"}}, "priority"),
        ({"parameters": {"priority": -1}}, "priority"),
        ({"parameters": {"timeout": 1.5}}, "timeout"),
        ({"parameters": {"sequence_id": 3}}, "sequences"),
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output"),
        ({"outputs": 7}, '"outputs"'),
        ({"outputs": ["y"]}, '"outputs"'),
        ({"outputs": [{"name": "z"}]}, "z"),
        ({"outputs": [{"name": "y", "parameters": {"classification": "two"}}]}, "classification"),
        ({"outputs": [{"name": "y", "parameters": {"binary_data": "yes"}}]}, "binary_data"),
        ({"inputs": [X, X]}, "twice"),
        ({"inputs": [X] * 1025, "id": "x" * 1000}, "the request has 1025 inputs, and 1024 is the most"),
        ({"outputs": [{"name": "y"}] * 1025}, "the request has 1025 outputs, and 1024 is the most"),
        ({"outputs": [{"name": "y" * 1025}]}, "the name of an output has 1025 characters"),
        ({"parameters": {str(number): 0 for number in range(257)}}, "the request has 257 parameters"),
        ({"inputs": [X, {**X, "name": "z"}]}, "z"),
    ],
)
def test_a_request_that_is_not_right_is_refused(
    client: TestClient, change: dict[str, Any], says: str
) -> None:
    assert says in error_of(client.post(INFER, json={"inputs": [X], **change}), 400)
    still_answers(client)


@pytest.mark.parametrize("field", ["id", "shape", "datatype", "name"])
def test_what_is_deep_is_refused_where_something_flat_belongs(client: TestClient, field: str) -> None:
    deep = b'"%b":' % field.encode() + b"[" * 1000 + b"]" * 1000
    tensor = b'{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]'
    body = (
        b'{%b,"inputs":[%b}]}' % (deep, tensor) if field == "id" else b'{"inputs":[%b,%b}]}' % (tensor, deep)
    )
    assert field in error_of(client.post(INFER, content=body), 400)
    still_answers(client)


@pytest.mark.parametrize("length", ["", "-1", "1.5", "0x10", "many", "1000000", "9" * 5000])
def test_a_header_length_that_is_none_or_lies_is_refused(client: TestClient, length: str) -> None:
    body, _ = binary_body({"inputs": [binary_tensor("x", rows())]}, rows())
    response = client.post(INFER, content=body, headers={"Inference-Header-Content-Length": length})
    assert "Inference-Header-Content-Length" in error_of(response, 400)
    still_answers(client)


@pytest.mark.parametrize(
    ("size", "sent", "says"),
    [
        (12, 11, "left for it"),
        (12, 13, "account for 12"),
        (8, 8, "takes 12"),
        (-1, 12, "from 0 up"),
        (1 << 70, 12, "left"),
    ],
)
def test_sizes_of_tensors_that_do_not_add_up_are_refused(
    client: TestClient, size: int, sent: int, says: str
) -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    try:
        head = orjson.dumps({"inputs": [tensor]})
    except TypeError:  # more than orjson writes
        head = (
            b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":%d}}]}'
            % size
        )
    headers = {"Inference-Header-Content-Length": str(len(head))}
    message = error_of(client.post(INFER, content=head + b"\0" * sent, headers=headers), 400)
    assert says in message or (size == 1 << 70 and "binary_data_size" in message)
    still_answers(client)


@pytest.mark.parametrize("length", [0, 11, 13])
def test_a_raw_binary_request_of_another_size_is_refused(client: TestClient, length: int) -> None:
    headers = {"Inference-Header-Content-Length": "0"}
    assert "12" in error_of(client.post(INFER, content=b"\0" * length, headers=headers), 400)


def test_a_raw_binary_request_for_two_inputs_is_refused() -> None:
    def add(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"y": inputs["a"] + inputs["b"]}

    specs = {"a": ("float32", (-1, 3)), "b": ("float32", (-1, 3))}
    with paddleinfer.Engine.from_callable(add, specs, ["y"]) as engine, client_of(engine) as client:
        response = client.post(INFER, content=b"\0" * 12, headers={"Inference-Header-Content-Length": "0"})
        assert "one input" in error_of(response, 400)


def test_a_raw_binary_request_with_two_free_dimensions_is_refused() -> None:
    with echo_engine(shape=(-1, -1, -1)) as engine, client_of(engine) as client:
        response = client.post(INFER, content=b"\0" * 12, headers={"Inference-Header-Content-Length": "0"})
        assert "free dimension" in error_of(response, 400)


def test_a_body_over_the_limit_is_refused(client: TestClient) -> None:
    assert "100000" in error_of(client.post(INFER, content=b"[" * 100_001), 413)
    still_answers(client)


@pytest.mark.parametrize("binary", [False, True])
def test_json_over_its_own_limit_is_refused(binary: bool) -> None:
    x = rows(1000)
    tensor = binary_tensor("x", x) if binary else json_tensor("x", x)
    body, headers = binary_body({"id": "i" * 400, "inputs": [tensor]}, *([x] if binary else []))
    headers = headers if binary else {}
    limit = 600 if binary else len(body)
    with engine_of() as engine, client_of(engine, max_json_bytes=limit) as client:
        outputs_of(client.post(INFER, content=body, headers=headers))
    with engine_of() as engine, client_of(engine, max_json_bytes=400) as client:
        assert "400 bytes that --max-json-bytes" in error_of(
            client.post(INFER, content=body, headers=headers), 413
        )


@pytest.mark.parametrize("digits", ["9" * 4301, "9" * 20, "0" * 4300 + "7", "1_0", "-1", "ten", ""])
def test_a_content_length_that_is_no_number_of_bytes_is_refused(client: TestClient, digits: str) -> None:
    response = client.post(INFER, content=b"{}", headers={"Content-Length": digits})
    message = error_of(response, 400)
    assert message.startswith("Content-Length must be a number of bytes, of 18 digits at most, not ")
    assert len(message) < 300


def test_a_body_over_the_limit_in_pieces_is_refused(client: TestClient) -> None:
    response = client.post(INFER, content=(b"[" * 1000 for _ in range(1000)))
    assert "100000" in error_of(response, 413)
    still_answers(client)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_refused_without_being_unpacked(client: TestClient, encoding: str) -> None:
    zeros = bytes(50_000_000)
    bomb = gzip.compress(zeros, 9) if encoding == "gzip" else zlib.compress(zeros, 9)
    assert len(bomb) < 100_000
    response = client.post(INFER, content=bomb, headers={"Content-Encoding": encoding})
    assert "100000" in error_of(response, 413)
    still_answers(client)


@pytest.mark.parametrize(
    ("body", "encoding", "status", "says"),
    [
        (b"{}", "br", 415, "gzip and deflate"),
        (b"{}", "gzip, gzip", 415, "gzip and deflate"),
        (b"{}", "gzip", 400, "not a gzip stream"),
        (b"\x78\x9c{}", "deflate", 400, "deflate"),
        (gzip.compress(b'{"inputs":[]}' * 10, mtime=0)[:-9], "gzip", 400, "cut short"),
        (gzip.compress(b"{}", mtime=0) + b"more", "gzip", 400, "after its end"),
        (b"", "gzip", 400, "cut short"),
    ],
)
def test_an_encoding_that_is_unknown_or_damaged_is_refused(
    client: TestClient, body: bytes, encoding: str, status: int, says: str
) -> None:
    response = client.post(INFER, content=body, headers={"Content-Encoding": encoding})
    assert says in error_of(response, status)
    still_answers(client)


def test_a_model_that_is_not_there_and_a_version_that_is_not_are_named(client: TestClient) -> None:
    body = {"inputs": [X]}
    assert "'q'" in error_of(client.post("/v2/models/q/infer", json=body), 404)
    assert "'9'" in error_of(client.post("/v2/models/m/versions/9/infer", json=body), 404)
    assert client.post("/v2/models/m/versions/1/infer", json=body).status_code == 200


def test_nothing_of_an_unexpected_failure_gets_out(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret /path")

    monkeypatch.setattr(asgi_request, "encode_response", broken)
    message = error_of(client.post(INFER, json={"inputs": [X]}), 500)
    assert "secret" not in message


def test_an_output_of_one_number_a_row_has_classes_too(client: TestClient) -> None:
    outputs = [{"name": "y", "parameters": {"classification": 99}}]
    answer = client.post(INFER, json={"inputs": [X], "outputs": outputs}).json()["outputs"][0]
    assert answer["shape"] == [1, 3]
    assert np.array(answer["data"]).tolist() == ["6.000000:2", "4.000000:1", "2.000000:0"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("path", ["/v2/models/%C2%9B31m/stats", "/%1b%5b31m", "/v2/models/%E2%80%AE/load"])
def test_no_character_that_a_terminal_acts_upon_comes_back(method: str, path: str) -> None:
    with engine_of() as engine, client_of(engine) as client:
        response = client.request(method, path)
    assert response.status_code in (404, 405)
    assert response.json()["error"].isprintable()
