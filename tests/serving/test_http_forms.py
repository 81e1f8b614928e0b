"""Paddle Serving's forms of requests over HTTP: what they ask is run, and answers look as its own."""

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import serving_wire as wire
from engine_helpers import echo_engine
from http_helpers import client_of
from serving_models import HOUSE
from starlette.testclient import TestClient

from paddleinfer import Engine
from paddleinfer.models.serving_conf import ELEM_TYPES
from paddleinfer.shim import create_app
from paddleinfer.tracing.paddle_profile import read

GENERAL = "/GeneralModelService/inference"
PROTO = {"Content-Type": "application/proto"}


@pytest.fixture(scope="module")
def uci(fit_a_line: Path) -> Iterator[TestClient]:
    """The documents' web service, by its name."""
    with Engine(fit_a_line) as engine, TestClient(create_app({"uci": engine})) as client:
        yield client


# The documented snippets


def test_the_web_service_answers_keys_and_values_as_documented(uci: TestClient, price: float) -> None:
    value = "0.0137, -0.1136, 0.2553, -0.0692, 0.0582, -0.0727, -0.1583, "
    value += "-0.0584, 0.6283, 0.4919, 0.1856, 0.0795, -0.0332"
    data = {"key": ["x"], "value": [value], "logid": 10000, "clientip": "1.2.3.4"}
    answer = uci.post("/uci/prediction", content=json.dumps(data))
    assert answer.status_code == 200
    assert list(answer.json()) == ["err_no", "err_msg", "key", "value", "tensors"]
    document = answer.json()
    assert (document["err_no"], document["err_msg"], document["tensors"]) == (0, "", [])
    assert document["key"] == ["price"]
    (text,) = document["value"]
    np.testing.assert_allclose(json.loads(text), [[price]], rtol=1e-5)


def test_the_older_web_service_answers_feeds_as_documented(uci: TestClient, price: float) -> None:
    data = {"feed": [{"x": HOUSE}, {"x": HOUSE}], "fetch": ["price"]}
    answer = uci.post("/uci/prediction", json=data)
    assert answer.status_code == 200 and list(answer.json()) == ["result"]
    np.testing.assert_allclose(answer.json()["result"]["price"], [[price], [price]], rtol=1e-5)


def test_the_general_service_answers_json_as_documented(uci: TestClient, price: float) -> None:
    tensor = {"float_data": HOUSE, "elem_type": 1, "name": "x", "alias_name": "x", "shape": [1, 13]}
    data = {"tensor": [tensor], "fetch_var_names": ["price"], "log_id": 0}
    answer = uci.post(GENERAL, content=json.dumps(data))
    assert answer.status_code == 200
    document = answer.json()
    assert (document["err_no"], document["err_msg"]) == (0, "")
    (output,) = document["outputs"]
    assert output["engine_name"] == "GeneralInferOp_0"
    (price_tensor,) = output["tensor"]
    assert (price_tensor["alias_name"], price_tensor["elem_type"], price_tensor["shape"]) == (
        "price",
        1,
        [1, 1],
    )
    np.testing.assert_allclose(price_tensor["float_data"], [price], rtol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_the_general_service_answers_messages_byte_for_byte(
    uci: TestClient, fit_a_line: Path, price: float, packed: bool
) -> None:
    asked = wire.request(
        wire.tensor("x", [1, 13], floats=HOUSE, packed=packed), fetch=("price",), log_id=1 << 40
    )
    answer = uci.post(GENERAL, content=asked, headers=PROTO)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/proto")
    read = wire.read_response(answer.content)
    (output,) = read["outputs"]
    (tensor,) = output["tensor"]
    np.testing.assert_allclose(tensor.pop("float_data"), [price], rtol=1e-5)
    assert tensor.pop("name") != "price"
    assert tensor == {"elem_type": 1, "shape": [1, 1], "alias_name": "price"}
    assert (read["log_id"], read["err_no"], read["err_msg"]) == (1 << 40, 0, "")


# Forms of values


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ("1,2,3", 1),
        ("[1, 2, 3]", 1),
        ("[[1, 2, 3]]", 1),
        (" [[1,2,3],[4,5,6]] ", 2),
        ("1, 2, 3, 4, 5, 6", 2),
        ("1.5e0,-2,3", 1),
    ],
)
def test_values_are_json_or_numbers_with_commas(doubling: TestClient, value: str, count: int) -> None:
    answer = doubling.post("/m/prediction", json={"key": ["x"], "value": [value]}).json()
    assert answer["err_no"] == 0, answer
    flat = json.loads(f"[{value.replace('[', '').replace(']', '')}]")
    assert json.loads(answer["value"][0]) == (np.reshape(flat, (count, 3)) * 2).tolist()


def test_a_row_of_free_length_keeps_its_shape() -> None:
    with echo_engine("int64", (-1, -1)) as engine, client_of(engine) as client:
        for value, rows_ in (("1,2,3", [[1, 2, 3]]), ("[[1,2],[3,4]]", [[1, 2], [3, 4]])):
            answer = client.post("/m/prediction", json={"key": ["x"], "value": [value]}).json()
            assert json.loads(answer["value"][0]) == rows_


@pytest.mark.parametrize("dtype", ELEM_TYPES)
def test_tensors_of_every_type_go_both_ways_in_each_form(dtype: str) -> None:
    np_dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    x = np.array([[0, 1, 1], [1, 0, 1]]).astype(np_dtype)
    number = ELEM_TYPES[dtype]
    field = {0: "int64_data", 1: "float_data", 2: "int_data", 3: "float64_data", 9: "bool_data"}.get(number)
    data: dict[str, Any] = {"tensor_content": base64.b64encode(x.tobytes()).decode()}
    if field is not None:
        data = {field: x.reshape(-1).tolist()}
    # A web service's tensors have no tensor_content.
    web_fields = {4: "int_data", 5: "float_data", 6: "uint32_data", 7: "uint32_data", 8: "int_data"}
    web_field = field or web_fields[number]
    web_data = (x.view("uint16") if dtype == "bfloat16" else x).reshape(-1).tolist()
    described = {"elem_type": number, "shape": [2, 3]}
    asked = {**described, "name": "x"}
    with echo_engine(dtype) as engine, client_of(engine) as client:
        general = client.post(GENERAL, json={"tensor": [{**asked, **data}]}).json()
        answers = [
            client.post("/m/prediction", json={"tensors": [{**asked, **given}]}).json()
            for given in (data, {web_field: web_data})
        ]
    assert general["outputs"][0]["tensor"] == [{**described, "name": "y", "alias_name": "y", **data}]
    for answer in answers:
        assert answer["tensors"] == [{**described, "name": "y", web_field: web_data}]


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_tensor_may_be_a_file_of_numpy(doubling: TestClient, order: str) -> None:
    x = np.array([[1, 2, 3], [4, 5, 6]], "float32", order=order)
    file = io.BytesIO()
    np.save(file, x)
    tensor = {"name": "x", "elem_type": 13, "byte_data": base64.b64encode(file.getvalue()).decode()}
    (answer,) = doubling.post("/m/prediction", json={"tensors": [tensor]}).json()["tensors"]
    assert answer["float_data"] == (x * 2).reshape(-1).tolist()


def test_the_stages_are_answered_where_they_are_asked_for(doubling: TestClient) -> None:
    asked = {"key": ["pipeline.profile", "x"], "value": ["1", "1,2,3"]}
    answer = doubling.post("/m/prediction", json=asked).json()
    assert answer["err_no"] == 0 and answer["key"] == ["y", "pipeline.profile"]
    (stages,) = read([answer["value"][1]]).lines
    assert [stage.name for stage in stages] == ["prepack", "midp", "postpack"]
    asked["value"][0] = "0"
    assert doubling.post("/m/prediction", json=asked).json()["key"] == ["y"]


def test_bodies_and_answers_may_be_compressed(doubling: TestClient) -> None:
    feed = {"feed": [{"x": [1, 2, 3]}] * 400, "fetch": ["y"]}
    body = gzip.compress(json.dumps(feed).encode())
    headers = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    answer = doubling.post("/m/prediction", content=body, headers=headers)
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json()["result"]["y"] == [[2, 4, 6]] * 400


def test_floats_in_a_message_may_come_in_pieces_and_at_any_place(doubling: TestClient) -> None:
    first, second = struct.pack("<2f", 1, 2), struct.pack("<f", 3)
    head = wire.field(13, 2, b"x") + wire.field(10, 0, b"\x01")
    shape = wire.field(11, 2, b"\x01\x03")
    body = wire.request(head + wire.field(2, 2, first) + shape + wire.field(2, 2, second))
    read = wire.read_response(doubling.post(GENERAL, content=body, headers=PROTO).content)
    assert read["outputs"][0]["tensor"][0]["float_data"] == [2, 4, 6]
    content = wire.field(15, 2, struct.pack("<3f", 1, 2, 3))
    read = wire.read_response(
        doubling.post(GENERAL, content=wire.request(head + content + shape), headers=PROTO).content
    )
    assert read["outputs"][0]["tensor"][0]["float_data"] == [2, 4, 6]


@pytest.mark.parametrize("packed", [False, True])
def test_many_integers_in_a_message_are_read_in_pieces(packed: bool) -> None:
    with echo_engine("int64", (-1, 70_000)) as engine, client_of(engine) as client:
        numbers = list(range(-35_000, 35_000))
        body = wire.request(wire.tensor("x", [1, 70_000], int64s=numbers, packed=packed))
        read = wire.read_response(client.post(GENERAL, content=body, headers=PROTO).content)
        assert read["outputs"][0]["tensor"][0]["int64_data"] == numbers


def test_large_answers_are_written_as_small_ones() -> None:
    with echo_engine(shape=(-1, 70_000)) as engine, client_of(engine) as client:
        x = np.arange(140_000, dtype="float32").reshape(2, -1)
        asked = wire.request(wire.tensor("x", [2, 70_000], floats=x.reshape(-1).tolist(), packed=True))
        answer = wire.read_response(client.post(GENERAL, content=asked, headers=PROTO).content)
        assert answer["outputs"][0]["tensor"][0]["float_data"] == x.reshape(-1).tolist()
        document = {"key": ["x"], "value": [json.dumps(x.tolist())]}
        assert json.loads(client.post("/m/prediction", json=document).json()["value"][0]) == x.tolist()
        tensor = {"float_data": x.reshape(-1).tolist(), "elem_type": 1, "shape": [2, 70_000], "name": "x"}
        answer = client.post(GENERAL, json={"tensor": [tensor]}).json()
        assert answer["outputs"][0]["tensor"][0]["float_data"] == x.reshape(-1).tolist()


def test_requests_of_all_protocols_share_the_engine_and_its_metrics(doubling: TestClient) -> None:
    doubling.post("/m/prediction", json={"key": ["x"], "value": ["1,2,3"]})
    doubling.post("/m/prediction", json={"feed": [{"x": [1, 2, 3]}], "fetch": ["y"]})
    tensor = {"float_data": [1, 2, 3], "elem_type": 1, "shape": [1, 3], "name": "x"}
    doubling.post("/GeneralModelService/debug", json={"tensor": [tensor]})
    assert 'paddleinfer_requests_total{model="m",outcome="result"} 3.0' in doubling.get("/metrics").text
    (live,) = doubling.get("/v2/live").json()["models"]
    assert live["latency"]["count"] == 3
