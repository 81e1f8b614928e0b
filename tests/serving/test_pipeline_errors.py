"""Requests to a pipeline that get no result: each has a number and a sentence, and the next is answered."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc_helpers
import numpy as np
import pipeline_wire as wire
import pytest
from engine_helpers import PATIENCE_S, Arrays, Gate, double, engine_of, eventually
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_pipelines import asked, pipeline_of
from starlette.testclient import TestClient

from paddleinfer.errors import InvalidInput
from paddleinfer.serving import Op, RequestOp, ResponseOp
from paddleinfer.serving.formats.pipeline import PipelineRequest
from paddleinfer.serving.http_server import application, server_options
from paddleinfer.serving.pipeline import CustomException, CustomExceptionCode, ProductErrCode

LOGGER = "paddleinfer.serving"


MANY = b",".join([b'"a"'] * 1025)


class ShopErrors(ProductErrCode):
    SOLD_OUT = 61


class WrongOp(Op):
    """Does what the client says."""

    def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
        ((_, given),) = input_dicts.items()
        self.how = given["how"]
        feed: Any = {"x": np.full((1, 3), float(given.get("x", 1)), "float32")}
        if self.how == "product":
            return {}, False, 55, "the shop is closed"
        if self.how == "raises":
            raise KeyError("secret")
        if self.how == "invalid":
            raise InvalidInput("the picture is too dark")
        if self.how == "told":
            raise CustomException(CustomExceptionCode.INPUT_PARAMS_ERROR, "send a picture", True)
        if self.how == "own":
            raise CustomException(ShopErrors.SOLD_OUT, "nothing is left", True)
        if self.how == "hidden":
            raise CustomException(CustomExceptionCode.CONF_ERROR, "the password is wrong")
        if self.how == "exits":
            raise SystemExit(3)
        return {
            "tuple": (feed, False),
            "text": ("text", False, None, ""),
            "unknown": ({"z": feed["x"]}, False, None, ""),
            "shape": ({"x": np.ones((1, 4), "float32")}, False, None, ""),
            "ragged": ({"x": [[1], [1, 2]]}, False, None, ""),
            "strings": ([feed, "a"], False, None, ""),
        }.get(self.how, (feed, False, None, ""))

    def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int, log_id: int) -> Any:
        return {
            "no dict": ([], None, ""),
            "number": ({"y": 3}, None, ""),
            "objects": ({"y": np.array([object()])}, None, ""),
            "late product": ({}, 77, "too late"),
            "two": ({}, None),
            "half a character": ({"y": "a\ud800"}, None, ""),
            "half a key": ({"\ud800": "a"}, None, ""),
            "number as key": ({5: "a"}, None, ""),
            "large code": ({}, 1 << 31, "a text"),
            "code": ({}, "55", "a text"),
        }.get(self.how, ({"y": str(fetch_dict["y"][0, 0])}, None, ""))


def fails_below_zero(inputs: Arrays) -> Arrays:
    if (inputs["x"] < 0).any():
        raise ValueError("negative")
    return double(inputs)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    engine = engine_of(fails_below_zero)
    with pipeline_of(WrongOp("wrong", [RequestOp()]), {"wrong": engine}) as made:
        yield made


@pytest.mark.parametrize(
    ("how", "err_no", "sentence"),
    [
        ("product", 55, "the shop is closed"),
        ("late product", 77, "too late"),
        ("told", 5000, "send a picture"),
        ("own", 61, "nothing is left"),
        ("invalid", 5000, "too dark"),
        ("unknown", 5000, "there is no input 'z'"),
        ("shape", 5000, "'x'"),
        ("ragged", 5000, "rectangular"),
        ("tuple", 7000, r"must give \(feed, is_skip_process, prod_errcode, prod_errinfo\), and gave"),
        ("text", 7000, "must give a dict of arrays, or a list of such dicts, and gave 'text'"),
        ("strings", 7000, "must give a dict of arrays"),
        ("no dict", 7000, "must give a dict, and gave"),
        ("two", 7000, r"must give \(output, prod_errcode, prod_errinfo\)"),
        ("code", 7000, "must give"),
        ("number", 7000, "'y' as int: it must be a text or an array of numbers"),
        ("objects", 7000, "'y' as ndarray"),
        ("half a character", 7000, "cannot be sent: a value has half a character at 1"),
        ("half a key", 7000, "cannot be sent: a key has half a character at 0"),
        ("number as key", 7000, "cannot be sent: a key must be a text, not 5"),
        ("large code", 7000, "must be an integer of 32 bits, not 2147483648"),
    ],
)
def test_what_an_op_does_wrong_has_its_number_and_a_sentence(
    server: Any, how: str, err_no: int, sentence: str
) -> None:
    response = asked(server, how=how)
    assert (response.err_no, response.key, response.value) == (err_no, [], [])
    assert re.search(sentence, response.err_msg), response.err_msg
    assert asked(server, how="well").value == ["2.0"]


def test_the_number_0_of_the_product_is_no_error() -> None:
    class Succeeding(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            return {"y": "1"}, True, 0, "success"

    with pipeline_of(Succeeding("op", [RequestOp()])) as server:
        assert asked(server, x="1").value == ["1"]


@pytest.mark.parametrize(("how", "err_no"), [("raises", 10000), ("hidden", 4000)])
def test_what_an_op_raises_is_for_the_log_alone(
    server: Any, caplog: pytest.LogCaptureFixture, how: str, err_no: int
) -> None:
    with caplog.at_level(logging.ERROR, LOGGER):
        response = asked(server, how=how, log_id=1234)
    assert response.err_no == err_no
    assert "secret" not in response.err_msg and "password" not in response.err_msg
    assert "Op 'wrong' failed in preprocess" in response.err_msg and "log_id 1234" in response.err_msg
    (record,) = [record for record in caplog.records if record.name == LOGGER]
    assert record.exc_info is not None


def test_a_failing_model_fails_its_own_request_and_no_other(server: Any) -> None:
    def told(number: int) -> tuple[int, list[str]]:
        x = -1 if number % 3 == 0 else number
        response = asked(server, how="well", x=str(x))
        return response.err_no, response.value

    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(told, range(192)))
    assert answers == [(9000, []) if number % 3 == 0 else (0, [str(2.0 * number)]) for number in range(192)]


def test_a_request_for_another_service_is_refused(server: Any) -> None:
    response = server.call(PipelineRequest(name="q", keys=["how"], values=["well"]))
    assert response.err_no == 3002 and "there is no service 'q'" in response.err_msg


def test_a_request_that_cannot_be_unpacked_has_the_number_of_its_package(server: Any) -> None:
    for tensor in ({"name": "x"}, {"name": "", "elem_type": 12, "str_data": ["a"]}):
        assert server.call(PipelineRequest(tensors=[tensor])).err_no == 8000
    uneven = server.call(PipelineRequest(keys=["how"]))
    assert uneven.err_no == 8000 and "1 keys and 0 values" in uneven.err_msg
    assert server.call("how").err_no == 5000
    twice = {"name": "how", "elem_type": 12, "shape": [1], "str_data": ["well"]}
    response = server.call(PipelineRequest(keys=["how"], values=["well"], tensors=[twice]))
    assert response.err_no == 8000 and "'how' is given twice" in response.err_msg


@pytest.mark.parametrize(
    ("unpacked", "err_no"),
    [
        (lambda request: ({}, 1, 52, "no key"), 52),
        (lambda request: ("text", 1, None, ""), 7000),
        (lambda request: (request.key, 1), 7000),
        (lambda request: request.value[5], 8000),
    ],
)
def test_an_unpacking_of_ones_own_has_the_same_rules(unpacked: Any, err_no: int) -> None:
    class Unpacking(RequestOp):
        def unpack_request_package(self, request: PipelineRequest) -> Any:
            return unpacked(request)

    with pipeline_of(WrongOp("wrong", [Unpacking()]), {"wrong": engine_of()}) as server:
        assert asked(server, how="well").err_no == err_no


def test_a_packing_of_ones_own_sees_errors_and_must_give_a_response() -> None:
    class Packing(ResponseOp):
        def pack_response_package(self, channeldata: Any) -> Any:
            if channeldata.error_code:
                self.seen = (channeldata.error_code, channeldata.prod_error_code, channeldata.datatype)
                seen.append((*self.seen, channeldata.prod_error_info or channeldata.error_info))
                with pytest.raises(InvalidInput, match="no output to parse"):
                    channeldata.parse()
            return "a text"

    seen: list[Any] = []
    op = WrongOp("wrong", [RequestOp()])
    with pipeline_of(op, {"wrong": engine_of()}, response_op=Packing([op])) as server:
        assert asked(server, how="product").err_no == 7000
        assert asked(server, how="told").err_no == 7000
        assert asked(server, how="well").err_no == 7000
    assert seen == [(50, 55, 2, "the shop is closed"), (5000, None, 2, "send a picture")]


# Time


def test_a_run_that_takes_too_long_is_tried_again_and_then_ends_with_its_number() -> None:
    class Pre(WrongOp):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            passes.append(1)
            return super().preprocess(input_dicts, data_id, log_id)

    passes: list[int] = []
    gate = Gate()
    engine = engine_of(gate, instances=1)
    op = {"timeout": 20, "retry": 2}
    with pipeline_of(Pre("op", [RequestOp()]), {"op": engine}, dag={"retry": 3}, op=op) as server:
        response = asked(server, how="well")
        gate.open()
    assert (response.err_no, len(passes)) == (6000, 3)


def test_the_deadline_of_the_caller_ends_a_request_at_every_place() -> None:
    gate = Gate()
    engine = engine_of(gate, instances=1)
    with (
        pipeline_of(WrongOp("op", [RequestOp()]), {"op": engine}, op={"retry": 1000}) as server,
        ThreadPoolExecutor(8) as threads,
    ):
        request = PipelineRequest(keys=["how"], values=["well"])
        futures = [threads.submit(server.call, request, timeout=0.05) for _ in range(8)]
        assert {future.result(PATIENCE_S).err_no for future in futures} == {6000}
        gate.open()
        assert server.service.stats()["outcomes"]["expired"] == 8


def test_a_request_waits_for_an_ops_functions_until_its_deadline() -> None:
    gate = Gate()

    class Slow(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            gate({"x": np.ones((1, 3), "float32")})
            return {"done": "1"}, True, None, ""

    with pipeline_of(Slow("op", [RequestOp()])) as server, ThreadPoolExecutor(1) as threads:
        first = threads.submit(asked, server, x="1")
        gate.wait_entered()
        late = server.call(PipelineRequest(keys=["x"], values=["1"]), timeout=0.02)
        gate.open()
        assert late.err_no == 6000 and first.result(PATIENCE_S).err_no == 0
        assert asked(server, x="1").err_no == 0


# Over HTTP and gRPC


@pytest.mark.parametrize(
    ("how", "err_no", "status"),
    [("product", 55, 400), ("told", 5000, 400), ("raises", 10000, 500), ("number", 7000, 500)],
)
def test_a_failed_request_has_status_200_unless_real_ones_are_asked_for(
    server: Any, how: str, err_no: int, status: int
) -> None:
    for http_status, expected in (("200", 200), ("real", status)):
        app = application({}, server_options({"http_status": http_status}), {"p": server})
        with TestClient(app) as client:
            answer = client.post("/p/prediction", json={"key": ["how"], "value": [how]})
        assert (answer.status_code, answer.json()["err_no"]) == (expected, err_no)
        assert list(answer.json()) == ["err_no", "err_msg", "key", "value", "tensors"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "not JSON"),
        (b"[]", "JSON object"),
        (b'{"key": ["a"], "value": []}', "1 keys and 0 values"),
        (b'{"key": "a", "value": "b"}', '"key" must be a list'),
        (b'{"key": [1], "value": ["b"]}', '"key" must be a list of texts'),
        (b'{"key": ["how"], "value": ["well"], "logid": "x"}', '"logid" must be an integer of 64 bits'),
        (b'{"key": ["how"], "value": ["well"], "logid": 1e400}', "JSON"),
        (b'{"key": ["how"], "value": ["well"], "clientip": 3}', '"clientip" must be a text'),
        (b'{"tensors": [3]}', '"tensors" must be an object'),
        (
            b'{"key": [' + b",".join([b'"a"'] * 1025) + b'], "value": [' + b",".join([b'"a"'] * 1025) + b"]}",
            "1024",
        ),
    ],
)
def test_hostile_documents_get_a_sentence(server: Any, body: bytes, sentence: str) -> None:
    with TestClient(server.application()) as client:
        answer = client.post("/p/prediction", content=body)
        assert (answer.status_code, answer.json()["err_no"]) == (200, 5000), answer.text
        assert sentence in answer.json()["err_msg"]
        good = client.post("/p/anything", json={"key": ["how"], "value": ["well"], "logid": "7"})
        assert good.json()["value"] == ["2.0"]
        assert client.get("/p/prediction").status_code == 405
        assert client.post("/q/prediction", json={}).json()["err_no"] == 3002


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
TENSOR = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["how", "x", ""]) | JSON,
        "elem_type": st.integers(-1, 21) | JSON,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | JSON,
        "float_data": st.lists(st.floats(width=32), max_size=3) | JSON,
        "str_data": st.lists(st.text(max_size=3), max_size=2) | JSON,
        "byte_data": st.text(max_size=6) | JSON,
    },
)


@settings(deadline=None, max_examples=200)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "key": st.lists(st.sampled_from(["how", "x"]), max_size=2) | JSON,
            "value": st.lists(st.sampled_from(["well", "1", "nan"]), max_size=2) | JSON,
            "tensors": st.lists(TENSOR | JSON, max_size=2) | JSON,
            "logid": st.integers() | JSON,
            "clientip": JSON,
        },
    )
)
def test_any_document_is_refused_in_a_sentence_or_gets_a_response(
    server: Any, document: dict[str, Any]
) -> None:
    try:
        request = server.read(document, "p", "prediction")
    except InvalidInput as refused:
        assert str(refused)
        return
    response = server.call(request)
    assert response.err_no == 0 or response.err_msg


def test_grpc_answers_the_same(server: Any) -> None:
    with grpc_helpers.serving({}, pipelines={"p": server}) as served:
        call = served.channel.unary_unary("/baidu.paddle_serving.pipeline_serving.PipelineService/inference")
        for how, err_no in (("well", 0), ("product", 55), ("raises", 10000)):
            read = wire.read_response(call(wire.request({"how": how}), timeout=PATIENCE_S))
            assert read["err_no"] == err_no
        assert wire.read_response(call(wire.request({"how": "well"}), timeout=PATIENCE_S))["value"] == ["2.0"]


def test_a_queue_that_is_full_is_told_with_the_time_to_wait() -> None:
    gate = Gate()
    engine = engine_of(gate, instances=1, max_queue_rows=1)
    with (
        pipeline_of(WrongOp("op", [RequestOp()]), {"op": engine}) as server,
        ThreadPoolExecutor(2) as threads,
        TestClient(server.application()) as client,
    ):
        runs = threads.submit(asked, server, how="well")
        gate.wait_entered()
        waits = threads.submit(asked, server, how="well")
        eventually(lambda: engine.stats()["queued_requests"] == 1)
        refused = client.post("/p/prediction", json={"key": ["how"], "value": ["well"]})
        gate.open()
        assert [future.result(PATIENCE_S).err_no for future in (runs, waits)] == [0, 0]
    assert (refused.status_code, refused.json()["err_no"]) == (200, 3002)
    assert int(refused.headers["retry-after"]) >= 1


def test_a_function_that_exits_ends_its_request_alone(server: Any) -> None:
    with TestClient(server.application()) as client:
        answer = client.post("/p/prediction", json={"key": ["how"], "value": ["exits"]})
        assert answer.json()["err_no"] == 10000
        good = client.post("/p/prediction", json={"key": ["how"], "value": ["well"]})
        assert good.json()["value"] == ["2.0"]
