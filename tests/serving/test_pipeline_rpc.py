"""Paddle Serving's ``PipelineService`` over gRPC: pipelines and models, and what is wrong with a request."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc_helpers
import ml_dtypes
import numpy as np
import pipeline_wire as wire
import pytest
from engine_helpers import PATIENCE_S, Gate, echo_engine, engine_of
from grpc_helpers import Served, failure
from grpc_outsider import Outsider
from pipeline_doubles import EchoPipeline
from serving_models import HOUSE, price_of

from paddleinfer import Engine
from paddleinfer.errors import QueueFull
from paddleinfer.serve import Request, Service

METHOD = "/baidu.paddle_serving.pipeline_serving.PipelineService/inference"
ROW = wire.request({"x": "1, 2, 3"})


def ask(served: Served, body: bytes, **how: Any) -> bytes:
    answer: bytes = served.channel.unary_unary(METHOD)(body, timeout=PATIENCE_S, **how)
    return answer


def told(served: Served, body: bytes) -> tuple[int, str]:
    """Number and sentence of a request that gets no result."""
    read = wire.read_response(ask(served, body))
    assert read["key"] == read["value"] == read["tensors"] == []
    return read["err_no"], read["err_msg"]


@pytest.fixture(scope="module")
def doubling() -> Iterator[Served]:
    with engine_of() as engine, grpc_helpers.serving(engine) as served:
        yield served


# Models


def test_the_documented_request_gets_the_documented_answer(fit_a_line: Path) -> None:
    with Engine(fit_a_line) as engine, grpc_helpers.serving({"uci": engine}) as served:
        answer = ask(served, wire.request({"x": ", ".join(map(str, HOUSE))}, name="uci", logid=7))
    (value,) = wire.read_response(answer)["value"]
    np.testing.assert_allclose(json.loads(value), price_of(fit_a_line, np.array([HOUSE])), rtol=1e-5)
    assert answer == wire.response({"price": value})


@pytest.mark.parametrize("dtype", wire.FIELD_OF)
def test_tensors_of_every_type_are_answered_byte_for_byte(dtype: str) -> None:
    np_dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    x = np.array([[0, 1, 1], [1, 0, 1]]).astype(np_dtype)
    number, field = wire.FIELD_OF[dtype]
    data = (x.view("uint16") if dtype == "bfloat16" else x).reshape(-1).tolist()
    with echo_engine(dtype) as engine, grpc_helpers.serving(engine) as served:
        answer = ask(served, wire.request(None, wire.tensor("x", number, (2, 3), **{field: data})))
    assert answer == wire.response(None, wire.tensor("y", number, (2, 3), **{field: data}))


def test_numbers_that_are_not_packed_are_read(doubling: Served) -> None:
    single = b"".join(wire.packed("float_data", [number]) for number in (1, 2, 3))
    loose = b"".join(b"\x15" + np.float32(number).tobytes() for number in (1, 2, 3))
    described = wire.tensor("x", 1, (1, 3))
    for numbers in (single, loose):
        (tensor,) = wire.read_response(ask(doubling, wire.request(None, numbers + described)))["tensors"]
        assert tensor["float_data"] == [2, 4, 6]


def test_no_rows_at_all_are_no_damage() -> None:
    with echo_engine() as engine, grpc_helpers.serving(engine) as served:
        number, sentence = told(served, wire.request(None, wire.tensor("x", 1, (0, 3))))
    assert number == 5000 and "rows" in sentence


def test_a_model_is_asked_by_its_name_and_the_only_one_without() -> None:
    with engine_of() as engine, grpc_helpers.serving({"a": engine, "b": engine}) as served:
        assert told(served, ROW)[0] == 3002
        assert "a, b" in told(served, ROW)[1]
        read = wire.read_response(ask(served, wire.request({"x": "1,2,3"}, name="b")))
        assert json.loads(read["value"][0]) == [[2, 4, 6]]
        number, sentence = told(served, wire.request({"x": "1,2,3"}, name="c"))
        assert number == 3002 and "a, b" in sentence


def test_a_service_is_asked_by_keys_and_values() -> None:
    def greet(request: Request, engines: Any) -> dict[str, str]:
        return {"greeting": f"hello {request.value['who']}"}

    service = Service(handle=greet)
    with engine_of() as engine, service, grpc_helpers.serving(engine, {"greeter": service}) as served:
        for name in ("greeter", ""):
            answer = ask(served, wire.request({"who": "wörld"}, name=name))
            assert answer == wire.response({"greeting": "hello wörld"})
        assert told(served, wire.request({"whom": "world"}))[0] == 9000
        assert json.loads(wire.read_response(ask(served, wire.request({"x": "1,2,3"}, name="m")))["value"][0])


# Pipelines


def test_a_pipeline_gets_the_request_and_its_response_is_sent() -> None:
    pipeline = EchoPipeline()
    tensors = (
        wire.tensor("picture", 13, (2,), file=b"\0\1"),
        wire.tensor("words", 12, (2,), texts=["ä", "b"]),
        wire.tensor("ids", 0, (2,), int64_data=[-1, 2], lod=[0, 2]),
    )
    asked = wire.request(
        {"k": "välue", "": ""}, *tensors, name="p", method="prediction", logid=-5, clientip="1.2.3.4"
    )
    with engine_of() as engine, pipeline, grpc_helpers.serving(engine, pipelines={"p": pipeline}) as served:
        assert ask(served, asked) == wire.response({"k": "välue", "": ""}, *tensors)
    (seen,) = pipeline.seen
    assert (seen.name, seen.method, seen.log_id, seen.client_ip) == ("p", "prediction", -5, "1.2.3.4")


def test_the_only_pipeline_needs_no_name_and_knows_who_asks() -> None:
    pipeline = EchoPipeline()
    with engine_of() as engine, pipeline, grpc_helpers.serving(engine, pipelines={"p": pipeline}) as served:
        assert ask(served, wire.request({"k": "v"})) == wire.response({"k": "v"})
        assert wire.read_response(ask(served, wire.request({"x": "1,2,3"}, name="m")))["key"] == ["y"]
    assert pipeline.seen[0].client_ip == "127.0.0.1"
    assert served.service.services.get("p").latencies.as_dict()["count"] == 1


def test_what_a_pipeline_says_went_wrong_is_sent() -> None:
    pipeline = EchoPipeline(err_no=52, err_msg="this is no picture")
    with engine_of() as engine, pipeline:
        with grpc_helpers.serving(engine, pipelines={"p": pipeline}) as served:
            assert ask(served, ROW) == wire.response(err_no=52, err_msg="this is no picture")
        with grpc_helpers.serving(engine, pipelines={"p": pipeline}, http_status="real") as served:
            code, sentence = failure(lambda: ask(served, ROW))
    assert (code, sentence) == (grpc.StatusCode.INVALID_ARGUMENT, "this is no picture")


def test_that_a_deadline_has_passed_is_said_by_grpc_whoever_notices_first() -> None:
    gate = Gate()
    with (
        engine_of(gate) as engine,
        Service(engine, preprocess=lambda _: {"x": np.ones((1, 3), "float32")}) as service,
        grpc_helpers.serving(engine, {"s": service}) as served,
    ):
        asking = served.channel.unary_unary(METHOD)
        body = wire.request({"k": "v"}, name="s")
        codes = {failure(lambda: asking(body, timeout=0.02))[0] for _ in range(10)}
        gate.open()
    assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}


def test_the_time_of_an_op_alone_is_said_in_the_response() -> None:
    pipeline = EchoPipeline(err_no=6000, err_msg="the Op took too long")
    with engine_of() as engine, pipeline, grpc_helpers.serving(engine, pipelines={"p": pipeline}) as served:
        assert told(served, ROW) == (6000, "the Op took too long")


def test_a_pipeline_that_raises_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = EchoPipeline(raises=ZeroDivisionError("a secret"))
    with engine_of() as engine, pipeline, grpc_helpers.serving(engine, pipelines={"p": pipeline}) as served:
        number, sentence = told(served, ROW)
        assert number == 9000 and "secret" not in sentence
        served.still_answers()
    assert "a secret" in caplog.text


# What is wrong


X = wire.tensor("x", 1, (1, 3), float_data=[1, 2, 3])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "neither"),
        (b"\x0a", "not a message"),
        (b"{}", "not a message"),
        (wire.text(1, b"\xff") + wire.text(2, "1"), "not a message"),
        (wire.text(1, "x") + wire.text(2, b"\xff"), "not a message"),
        (wire.text(1, "x"), "1 keys and 0 values"),
        (wire.text(2, "1"), "0 keys and 1 values"),
        (wire.text(1, "x") * 1025, "1024"),
        (wire.text(2, "x") * 1025, "1024 values"),
        (wire.text(3, "") * 1025, "1024 tensors"),
        (wire.text(1, "x" * 1025), "1024 bytes of a name"),
        (wire.request({"nothing": "1"}), "the model takes x"),
        (wire.request({"x": "many"}), "must be a list in JSON"),
        (wire.request({"x": "[1, [2]]"}), "rectangular"),
        (wire.request({"x": "[" * 100_000}), "lists and objects"),
        (wire.request({"x": "1,2"}), "x"),
        (wire.request({"x": "1,2,3"}, X), "not both"),
        (wire.request(None, X, X), "twice"),
        (wire.request(None, b""), "name"),
        (wire.request(None, wire.tensor("x", 1, (2, 3), float_data=[1, 2, 3])), "3 numbers"),
        (wire.request(None, wire.tensor("x", 1, (1 << 30, 1 << 30), float_data=[1])), "1 numbers"),
        (wire.request(None, wire.tensor("x", 1, (-1, 3), float_data=[1, 2, 3])), "from 0 up"),
        (wire.request(None, wire.tensor("x", 1, (1,) * 40, float_data=[1])), "at most 32"),
        (wire.request(None, wire.tensor("x", 1, (1, 3), int64_data=[1, 2, 3])), "needs float_data"),
        (wire.request(None, wire.tensor("x", 8, (1, 3), int_data=[1, 2, 300])), "int8 cannot"),
        (wire.request(None, wire.tensor("x", 99, (1, 3), float_data=[1, 2, 3])), "elem_type"),
        (wire.request(None, wire.tensor("x", 12, (1, 3), texts=["a"])), "texts"),
        (wire.request(None, wire.tensor("x", 13, (1, 3), file=b"\x80\x04N.")), "numpy.save"),
        (wire.request(None, wire.tensor("x", 13, (1, 3))), "byte_data"),
        (wire.request(None, wire.tensor("x", 1, (1, 3), float_data=[1, 2, 3], lod=[0, 1])), "lod"),
        (wire.text(3, wire.field(2, wire.BYTES, b"123") + wire.tensor("x", 1, (1, 3))), "not a message"),
        (wire.text(3, wire.text(3, wire.text(3, b"\x0a"))), "name"),
        (wire.text(3, wire.text(3, b"\xff" * 20)), "not a message"),
    ],
)
def test_what_is_wrong_is_in_the_answer(doubling: Served, body: bytes, says: str) -> None:
    number, sentence = told(doubling, body)
    assert number == 5000 and says in sentence
    doubling.still_answers()


def test_the_log_of_accesses_says_which_service_was_called(
    doubling: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="paddleinfer.grpc.access"):
        ask(doubling, ROW)
        doubling.still_answers()
    assert any('"PipelineService/inference" OK' in record.getMessage() for record in caplog.records)


def test_real_statuses_are_those_of_grpc() -> None:
    with engine_of() as engine, grpc_helpers.serving(engine, http_status="real") as served:
        code, sentence = failure(lambda: ask(served, wire.request({"x": "many"})))
        assert code is grpc.StatusCode.INVALID_ARGUMENT and "JSON" in sentence
        served.still_answers()


def test_errors_of_the_engine_have_their_numbers() -> None:
    def fail(inputs: dict[str, Any]) -> dict[str, Any]:
        if inputs["x"][0, 0] > 0:
            raise ValueError("positive")
        raise QueueFull("the queue is full", retry_after_s=1.0)

    with engine_of(fail) as engine, grpc_helpers.serving(engine) as served:
        assert told(served, ROW)[0] == 9000
        engine.close()
        assert told(served, ROW)[0] == 3001


def test_a_deadline_that_passes_is_grpcs_own() -> None:
    gate = Gate()
    with engine_of(gate) as engine, grpc_helpers.serving(engine) as served:
        with pytest.raises(grpc.RpcError) as caught:
            served.channel.unary_unary(METHOD)(ROW, timeout=0.05)
        gate.open()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


# Reflection


def test_paddle_servings_services_are_found_by_reflection(doubling: Served) -> None:
    with Outsider(doubling.server.addresses[0]) as outsider:
        general = "baidu.paddle_serving.predictor.general_model.GeneralModelService"
        pipelines = "baidu.paddle_serving.pipeline_serving.PipelineService"
        assert {general, pipelines} <= set(outsider.services)
        for name, methods in ((general, ["inference", "debug"]), (pipelines, ["inference"])):
            service = outsider.service(name)
            assert [method.name for method in service.methods] == methods
        request = service.methods[0].input_type
        assert {field.name: field.number for field in request.fields} == {
            **{"key": 1, "value": 2, "tensors": 3, "name": 4, "method": 5, "logid": 6, "clientip": 7}
        }
        response = service.methods[0].output_type
        assert {field.name: field.number for field in response.fields} == {
            **{"err_no": 1, "err_msg": 2, "key": 3, "value": 4, "tensors": 5}
        }
