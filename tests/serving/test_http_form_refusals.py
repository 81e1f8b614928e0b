"""Paddle Serving's forms of requests over HTTP: what is wrong with one is answered as its own servers do."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import serving_wire as wire
from engine_helpers import engine_of, rows
from http_helpers import client_of
from starlette.testclient import TestClient
from string_services import Backwards

from paddleinfer.shim import ServiceOptions, create_app

GENERAL = "/GeneralModelService/inference"
PROTO = {"Content-Type": "application/proto"}

TENSOR = {"float_data": [1, 2, 3], "elem_type": 1, "shape": [1, 3], "name": "x"}


def feeds(*values: Any, fetch: Any = ("y",)) -> dict[str, Any]:
    return {"feed": [{"x": value} for value in values], "fetch": list(fetch)}


def pickled() -> str:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return base64.b64encode(file.getvalue()).decode()


def npy_of_terabytes() -> str:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    return base64.b64encode(file.getvalue() + b"....").decode()


@pytest.mark.parametrize(
    ("document", "number", "words"),
    [
        ({}, 5000, "neither"),
        ({"key": ["x"]}, 5000, "1 keys and 0 values"),
        ({"key": "x", "value": ["1"]}, 5000, '"key" must be a list'),
        ({"key": [1], "value": ["1"]}, 5000, "lists of texts"),
        ({"key": ["x"], "value": [1]}, 5000, "lists of texts"),
        ({"key": ["y"], "value": ["1"]}, 5000, "no input 'y'; the model takes x"),
        ({"key": ["x", "x"], "value": ["1,2,3"] * 2}, 5000, "'x' is given twice"),
        ({"key": ["x"] * 2000, "value": ["1"] * 2000}, 5000, "2000 keys"),
        ({"key": ["x"], "value": ["1,2"]}, 5000, "(1, 2)"),
        ({"key": ["x"], "value": [""]}, 5000, "'x'"),
        ({"key": ["x"], "value": ["array([1,2,3])"]}, 5000, "a list in JSON, or numbers with commas"),
        ({"key": ["x"], "value": ["__import__('os')"]}, 5000, "a list in JSON, or numbers with commas"),
        ({"key": ["x"], "value": ['["a",1,2]']}, 5000, "holds str"),
        ({"key": ["x"], "value": ["[[1,2,3],[1]]"]}, 5000, "rectangular"),
        ({"key": ["x"], "value": ["[[1,2,3],1]"]}, 5000, "rectangular"),
        ({"key": ["x"], "value": ["[" * 500 + "]" * 500]}, 5000, "rectangular"),
        ({"key": ["x"], "value": ["1,2,null"]}, 5000, "holds null"),
        ({"key": ["x"], "value": ["1,2,3"], "tensors": [TENSOR]}, 5000, "not both"),
        ({"tensors": [{**TENSOR, "elem_type": 20, "data": ["a"]}]}, 5000, "texts"),
        ({"tensors": [{**TENSOR, "elem_type": 10}]}, 5000, "elem_type of tensor 'x' must be one of"),
        ({"tensors": [{**TENSOR, "elem_type": "1"}]}, 5000, "elem_type of tensor 'x' must be one of"),
        ({"tensors": [{**TENSOR, "elem_type": [1]}]}, 5000, "elem_type of tensor 'x' must be one of"),
        ({"tensors": [{**TENSOR, "lod": [0, 3]}]}, 5000, "lengths of sequences"),
        ({"tensors": [{**TENSOR, "shape": [2, 3]}]}, 5000, "has 3 numbers, and its shape [2, 3] holds 6"),
        ({"tensors": [{**TENSOR, "shape": [-1, 3]}]}, 5000, "integers from 0 up"),
        ({"tensors": [{**TENSOR, "shape": [1] * 40}]}, 5000, "at most 32"),
        ({"tensors": [{**TENSOR, "shape": 3}]}, 5000, '"shape" must be a list'),
        ({"tensors": [{**TENSOR, "name": ""}]}, 5000, 'needs a "name"'),
        ({"tensors": [{**TENSOR, "name": 3}]}, 5000, '"name" must be a text'),
        ({"tensors": [{**TENSOR, "float_data": ["a"] * 3}]}, 5000, "holds a str"),
        ({"tensors": [{**TENSOR, "tensor_content": "%%%"}]}, 5000, "base64"),
        ({"tensors": [{**TENSOR, "tensor_content": "AAA="}]}, 5000, "2 bytes"),
        ({"tensors": [{"name": "x", "elem_type": 1, "shape": [1, 3]}]}, 5000, "needs float_data"),
        ({"tensors": [{"name": "x", "elem_type": 5, "shape": [1, 3]}]}, 5000, "needs tensor_content"),
        (
            {"tensors": [{"name": "x", "elem_type": 2, "int_data": [1 << 40] * 3, "shape": [1, 3]}]},
            5000,
            "int32",
        ),
        ({"tensors": [{"name": "x", "elem_type": 13, "byte_data": pickled()}]}, 5000, "pickles are not read"),
        ({"tensors": [{"name": "x", "elem_type": 13, "byte_data": npy_of_terabytes()}]}, 5000, "has 4 bytes"),
        ({"tensors": [{"name": "x", "elem_type": 13, "byte_data": "AAAA"}]}, 5000, "numpy.save"),
        ({"tensors": ["x"]}, 5000, "must be an object"),
    ],
)
def test_a_request_that_is_wrong_gets_200_with_its_number_and_a_sentence(
    doubling: TestClient, document: dict[str, Any], number: int, words: str
) -> None:
    answer = doubling.post("/m/prediction", json=document)
    assert answer.status_code == 200
    said = answer.json()
    assert list(said) == ["err_no", "err_msg", "key", "value", "tensors"]
    assert said["err_no"] == number and words in said["err_msg"], said
    assert (said["key"], said["value"], said["tensors"]) == ([], [], [])
    good = doubling.post("/m/prediction", json={"key": ["x"], "value": ["1,2,3"]}).json()
    assert good["value"] == ["[[2.0,4.0,6.0]]"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (feeds([1, 2, 3], fetch=()), '"fetch" must be a list'),
        ({"feed": [{"x": [1, 2, 3]}]}, '"fetch" must be a list'),
        ({"fetch": ["y"]}, '"feed" must be a list'),
        ({"feed": {"x": [1, 2, 3]}, "fetch": ["y"]}, '"feed" must be a list of objects'),
        (feeds([1, 2, 3], fetch=["z"]), "z"),
        (feeds([1, 2, 3], fetch=["y", "y"]), "twice"),
        (feeds([1, 2]), "(1, 2)"),
        (feeds(["a" * 1000, 1, 2]), "holds str"),
        (feeds({"a": 1}), "holds dict"),
        ({"feed": [], "fetch": ["y"]}, "feed"),
        ({"feed": [{"y": [1, 2, 3]}], "fetch": ["y"]}, "no input 'y'"),
    ],
)
def test_a_wrong_request_of_feeds_gets_its_sentence_as_the_result(
    doubling: TestClient, document: dict[str, Any], words: str
) -> None:
    answer = doubling.post("/m/prediction", json=document)
    assert answer.status_code == 200
    assert list(answer.json()) == ["result"] and words in answer.json()["result"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"3", b"\xff\xfe", b'{"key":["x"],"value":["1,2,3"]', b"{}" * 3]
)
def test_what_is_no_document_gets_its_sentence(doubling: TestClient, body: bytes) -> None:
    for path in ("/m/prediction", GENERAL):
        answer = doubling.post(path, content=body)
        assert answer.status_code == 200 and answer.json()["err_no"] != 0
        assert "JSON" in answer.json()["err_msg"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"tensor": {"name": "x"}}, '"tensor" must be a list'),
        ({"tensor": ["x"]}, "must be an object"),
        ({"tensor": [TENSOR, TENSOR]}, "given twice"),
        ({"tensor": [TENSOR] * 1025}, "1025 tensors"),
        ({"tensor": [TENSOR], "fetch_var_names": ["z"]}, "z"),
        ({"tensor": [TENSOR], "fetch_var_names": [3]}, "list of names"),
        ({"tensor": [TENSOR], "log_id": -1}, '"log_id"'),
        ({"tensor": []}, "missing input 'x'"),
    ],
)
def test_a_wrong_request_of_the_general_service_gets_its_number_and_a_sentence(
    doubling: TestClient, document: dict[str, Any], words: str
) -> None:
    answer = doubling.post(GENERAL, json=document)
    assert answer.status_code == 200
    assert answer.json()["err_no"] == -5000 and words in answer.json()["err_msg"]


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\xff" * 30,
        wire.request(*[b""] * 1025),
        wire.request(wire.tensor("x" * 2000, [1, 3], floats=[1, 2, 3])),
        wire.request(wire.tensor("x", [1, 3], int64s=[1, 2, 3])),
        wire.request(fetch=("y",)),
        wire.request(wire.field(2, 2, b"abc") + wire.field(10, 0, b"\x01") + wire.field(13, 2, b"x")),
        wire.request(wire.field(1, 2, b"\x01" * (5 << 20)) + wire.field(13, 2, b"x")),
        b"{}",
    ],
)
def test_a_damaged_message_gets_a_message_with_a_sentence(doubling: TestClient, body: bytes) -> None:
    answer = doubling.post(GENERAL, content=body, headers=PROTO)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/proto")
    read = wire.read_response(answer.content)
    assert read["err_no"] == -5000 and read["err_msg"] and read["outputs"] == []
    good = wire.request(wire.tensor("x", [1, 3], floats=[1, 2, 3]))
    assert wire.read_response(doubling.post(GENERAL, content=good, headers=PROTO).content)["err_no"] == 0


@pytest.mark.parametrize(
    ("path", "document", "status", "number"),
    [
        ("/m/prediction", {}, 400, 5000),
        ("/other/prediction", {"key": ["x"], "value": ["1,2,3"]}, 404, 3002),
        ("/m/prediction", {"key": ["x"], "value": ["-1,2,3"]}, 500, 9000),
        (GENERAL, {}, 400, -5000),
        (GENERAL, {"tensor": [{**TENSOR, "float_data": [-1, 2, 3]}]}, 500, -5100),
    ],
)
def test_real_statuses_are_an_option(path: str, document: dict[str, Any], status: int, number: int) -> None:
    def fail(inputs: dict[str, Any]) -> dict[str, Any]:
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        return {"y": inputs["x"]}

    for option, expected in (("200", 200), ("real", status)):
        with engine_of(fail) as engine, client_of(engine, http_status=option) as client:
            answer = client.post(path, json=document)
        assert (answer.status_code, answer.json()["err_no"]) == (expected, number)


def test_what_concerns_the_connection_keeps_its_status() -> None:
    with (
        engine_of() as engine,
        client_of(engine, max_body_bytes=1000, max_json_bytes=1000, api_key="k") as client,
    ):
        assert client.post("/m/prediction", json={}).status_code == 401
        key = {"Authorization": "Bearer k"}
        assert client.post("/m/prediction", content=b" " * 2000, headers=key).status_code == 413
        unknown = {**key, "Content-Encoding": "br"}
        assert client.post(GENERAL, content=b"{}", headers=unknown).status_code == 415
        assert client.get("/m/prediction", headers=key).status_code == 405


def test_of_several_models_the_general_service_names_them() -> None:
    with (
        engine_of() as engine,
        TestClient(create_app({"a": engine, "b": engine}, ServiceOptions())) as client,
    ):
        said = client.post(GENERAL, json={"tensor": [TENSOR]}).json()
        assert said["err_no"] == -5000 and "a, b" in said["err_msg"]
        assert client.post("/b/prediction", json={"key": ["x"], "value": ["1,2,3"]}).json()["err_no"] == 0


def test_the_general_service_takes_no_service() -> None:
    app = create_app({}, ServiceOptions(), services={"backwards": Backwards({})})
    with TestClient(app) as client:
        assert "the server has none" in client.post(GENERAL, json={"tensor": [TENSOR]}).json()["err_msg"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"feed":[' + b"[]," * 70_000 + b"1]}", "lists and objects"),
        (b'{"key":["x"],"value":["' + b"1," * 1_100_000 + b'1"]}', "values"),
    ],
)
def test_a_document_of_too_many_things_is_refused_before_it_is_parsed(
    doubling: TestClient, body: bytes, words: str
) -> None:

    said = doubling.post("/m/prediction", content=body).json()
    assert (
        said["err_no"] == 5000
        and f"more than {1 << 20 if words == 'values' else 1 << 16} {words}" in said["err_msg"]
    )
    assert doubling.post("/m/prediction", json=feeds(rows()[0].tolist())).json()["result"]["y"] == [[2, 2, 2]]
