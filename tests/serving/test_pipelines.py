"""Paddle Serving's pipelines: its public examples, and what their Ops may rely on."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Arrays, Gate, double, engine_of, eventually
from serving_models import HOUSE, price_of
from serving_pipelines import (
    RowOp,
    UciService,
    asked,
    number,
    pipeline_of,
    uci_conf,
)

from paddleinfer.serving import Op, PipelineServer, RequestOp, ResponseOp
from paddleinfer.serving.formats.pipeline import PipelineRequest, PipelineResponse

HOUSE_TEXT = ", ".join(map(str, HOUSE))
THREADS = 64


# The shape of the OCR pipeline


class DetOp(Op):
    """As the example of OCR: what postprocess needs it keeps on itself."""

    def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
        ((_, input_dict),) = input_dicts.items()
        self.raw_im = input_dict["image"]
        self.boxes = len(self.raw_im)
        return {"x": np.full((1, 3), self.boxes, "float32")}, False, None, ""

    def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int, log_id: int) -> Any:
        found = int(number(fetch_dict)) // 2
        return {"dt_boxes": list(range(found)), "image": self.raw_im}, None, ""


class RecOp(Op):
    """Mini-batches: a list of dicts, of one box each."""

    def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
        ((_, input_dict),) = input_dicts.items()
        self.dt_list = input_dict["dt_boxes"]
        if not self.dt_list:
            return {}, True, None, ""
        letters = [ord(input_dict["image"][box]) for box in self.dt_list]
        return [{"x": np.full((1, 3), letter, "float32")} for letter in letters], False, None, ""

    def postprocess(self, input_dicts: Any, fetch_data: Any, data_id: int, log_id: int) -> Any:
        letters = [] if isinstance(fetch_data, dict) else [chr(int(number(one)) // 2) for one in fetch_data]
        return {"result": str([letters[box] for box in range(len(self.dt_list))])}, None, ""


@pytest.fixture(params=[True, False], ids=["threads", "processes"])
def ocr(request: pytest.FixtureRequest) -> Iterator[PipelineServer]:
    read_op = RequestOp()
    rec_op = RecOp("rec", input_ops=[DetOp("det", input_ops=[read_op])])
    engines = {"det": engine_of(instances=2), "rec": engine_of(instances=2)}
    dag = {"is_thread_op": request.param}
    with pipeline_of(rec_op, engines, dag=dag, det={"concurrency": 6}, rec={"concurrency": 3}) as server:
        yield server


def test_the_pipeline_of_ocr_recognises_every_box_that_was_found(ocr: PipelineServer) -> None:
    assert asked(ocr, image="abc").value == ["['a', 'b', 'c']"]
    assert asked(ocr, image="").value == ["[]"]


def test_what_an_op_keeps_on_itself_never_mixes_with_another_requests(ocr: PipelineServer) -> None:
    images = ["".join(chr(97 + (seed * 7 + place) % 26) for place in range(seed % 5)) for seed in range(512)]
    with ThreadPoolExecutor(THREADS) as threads:
        responses = list(threads.map(lambda image: asked(ocr, image=image), images))
    assert [response.value for response in responses] == [[str(list(image))] for image in images]


# The forms of an Op's functions


class OldOp(Op):
    """Before version 0.7: postprocess without data_id."""

    def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
        return {"x": np.full((1, 3), log_id, "float32")}, False, None, ""

    def postprocess(self, input_dicts: Any, fetch_dict: Any, log_id: int) -> Any:
        return {"y": f"{number(fetch_dict)} of {log_id}"}, None, ""


class OldestOp(Op):
    """Without numbers, and with the dict alone."""

    def preprocess(self, input_dicts: Any) -> Any:
        return {"x": np.ones((1, 3), "float32")}

    def postprocess(self, input_dicts: Any, fetch_dict: Any) -> Any:
        return {"y": str(number(fetch_dict))}


class AnyOp(Op):
    def preprocess(self, *given: Any) -> Any:
        return {"x": np.full((1, 3), len(given), "float32")}, False, None, ""

    def postprocess(self, *given: Any) -> Any:
        return {"y": f"{number(given[1])} of {len(given)}"}, None, ""


class DataIdOp(Op):
    def preprocess(self, input_dicts: Any, data_id: int) -> Any:
        return {"x": np.full((1, 3), data_id, "float32")}, False, None, ""

    def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int) -> Any:
        return {"y": f"{number(fetch_dict)} of {data_id}"}, None, ""


@pytest.mark.parametrize(
    ("kind", "value"),
    [(OldOp, "14.0 of 7"), (OldestOp, "2.0"), (AnyOp, "6.0 of 4"), (DataIdOp, "0.0 of 0")],
)
def test_functions_of_older_versions_are_called_as_they_are_written(kind: type[Op], value: str) -> None:
    with pipeline_of(kind("op", [RequestOp()]), {"op": engine_of()}) as server:
        assert asked(server, log_id=7, x="1").value == [value]


def test_an_op_of_its_own_process_is_asked_with_one_dict() -> None:
    class Doubling(Op):
        def process(self, feed_batch: Any, typical_logid: int = 0) -> Any:
            result, err_no, sentence = super().process(feed_batch, typical_logid)
            return {"y": result["y"] + typical_logid}, err_no, sentence

        preprocess = RowOp.preprocess
        postprocess = RowOp.postprocess

    with pipeline_of(Doubling("op", [RequestOp()]), {"op": engine_of()}) as server:
        assert asked(server, log_id=5, x="1").value == ["7.0"]


def test_an_op_without_a_model_goes_from_preprocess_to_postprocess() -> None:
    class Upper(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            ((_, given),) = input_dicts.items()
            return {"text": given["text"].upper()}, False, None, ""

    with pipeline_of(Upper("upper", [RequestOp()])) as server:
        assert asked(server, text="loud").value == ["LOUD"]


def test_arrays_are_answered_as_json_or_as_tensors() -> None:
    class Both(Op):
        def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int, log_id: int) -> Any:
            return {"y": np.array([[1.5, np.nan]], "float32"), "name": "a text", "n": np.int64(3)}, None, ""

    with pipeline_of(Both("op", [RequestOp()])) as server:
        assert asked(server, x="1").value == ["[[1.5,null]]", "a text", "3"]
    both = Both("op", [RequestOp()])
    response_op = ResponseOp([both])
    response_op.set_pack_format(True)
    with pipeline_of(both, response_op=response_op) as server:
        response = asked(server, x="1")
        assert (response.key, response.value) == (["name", "n"], ["a text", "3"])
        (tensor,) = response.tensors
        assert (tensor["name"], tensor["elem_type"], tensor["shape"]) == ("y", 1, [1, 2])


def test_a_request_brings_arrays_and_texts_as_tensors() -> None:
    seen: list[Any] = []

    class Looking(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            seen.append(input_dicts)
            return {"done": "1"}, True, None, ""

    with pipeline_of(Looking("op", [RequestOp()])) as server:
        tensors = [
            {"name": "x", "elem_type": 1, "shape": [1, 2], "float_data": [1, 2]},
            {"name": "text", "elem_type": 12, "shape": [1], "str_data": ["a ", "text"]},
        ]
        assert server.call(PipelineRequest(tensors=tensors)).err_no == 0
    ((name, given),) = seen[0].items()
    assert name == "@DAGExecutor" and given["text"] == "a text"
    np.testing.assert_array_equal(given["x"], np.array([[1, 2]], "float32"))


# Batches


def test_requests_of_all_callers_share_the_batches_of_an_op() -> None:
    gate = Gate()
    engine = engine_of(gate, instances=1, max_batch_size=32)
    with pipeline_of(RowOp("op", [RequestOp()]), {"op": engine}) as server, ThreadPoolExecutor(9) as threads:
        first = threads.submit(asked, server, x="0")
        gate.wait_entered()
        others = [threads.submit(asked, server, x=str(one)) for one in range(1, 9)]
        eventually(lambda: engine.stats()["queued_requests"] == 8)
        gate.open()
        assert first.result(PATIENCE_S).value == ["0.0"]
        assert [one.result(PATIENCE_S).value for one in others] == [[str(2.0 * one)] for one in range(1, 9)]
    assert max(gate.sizes) > 1


def test_a_lone_request_does_not_wait_for_a_batch(fit_a_line: Path) -> None:
    service = UciService(name="uci")
    conf = uci_conf(fit_a_line, batch_size=8, auto_batching_timeout=86_400_000)  # a day
    service.prepare_pipeline_config(yml_dict=conf)
    try:
        assert asked(service.pipeline, x=HOUSE_TEXT).err_no == 0
        engine = service.effective_config()["op.uci.auto_batching_timeout"]["engine"]
        assert engine["max_queue_delay_us"]["value"] == 86_400_000_000
    finally:
        service.close()


def test_64_threads_get_the_answers_of_one(fit_a_line: Path) -> None:
    service = UciService(name="uci")
    service.prepare_pipeline_config(yml_dict=uci_conf(fit_a_line))
    houses = np.random.default_rng(0).normal(size=(THREADS * 4, 13)).astype("float32")
    texts = [",".join(map(str, house.tolist())) for house in houses]

    def answered(text: str) -> float:
        response = asked(service.pipeline, x=text)
        assert response.err_no == 0, response
        return float(json.loads(response.value[0])[0][0])

    try:
        alone = [answered(text) for text in texts]
        with ThreadPoolExecutor(THREADS) as threads:
            together = list(threads.map(answered, texts))
    finally:
        service.close()
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(alone, price_of(fit_a_line, houses)[:, 0], rtol=1e-4, atol=1e-6)


# In which copy of an Op a request is


@pytest.mark.parametrize(("is_thread_op", "inits", "most"), [(True, 1, 3), (False, 3, 1)])
def test_so_many_requests_are_in_an_ops_functions_as_its_concurrency_says(
    is_thread_op: bool, inits: int, most: int
) -> None:
    made: list[Any] = []
    entered = threading.Barrier(3)

    class Busy(Op):
        def init_op(self) -> None:
            self.state = {"now": 0, "most": 0, "number": self.concurrency_idx}
            made.append(self.state)

        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            self.state["now"] += 1
            self.state["most"] = max(self.state["most"], self.state["now"])
            entered.wait(PATIENCE_S)  # passes where three are inside at once
            self.state["now"] -= 1
            return {"done": "1"}, True, None, ""

    dag = {"is_thread_op": is_thread_op}
    with (
        pipeline_of(Busy("op", [RequestOp()]), dag=dag, op={"concurrency": 3}) as server,
        ThreadPoolExecutor(9) as threads,
    ):
        futures = [threads.submit(asked, server, x="1") for _ in range(9)]
        assert all(future.result(PATIENCE_S).err_no == 0 for future in futures)
    assert len(made) == inits
    assert all(state["most"] == most for state in made)
    assert [state["number"] for state in made] == ([None] if is_thread_op else [0, 1, 2])


def test_requests_that_give_up_their_wait_leave_no_place_taken() -> None:
    inside = threading.Barrier(2)

    class Waiting(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            ((_, given),) = input_dicts.items()
            if given["x"] == "meet":
                inside.wait(PATIENCE_S)
            return {"done": "1"}, True, None, ""

    with (
        pipeline_of(Waiting("op", [RequestOp()]), op={"concurrency": 2}) as server,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        request = PipelineRequest(keys=["x"], values=["go"])
        codes = threads.map(lambda one: server.call(request, timeout=one % 5 / 1e4).err_no, range(2000))
        assert set(codes) <= {0, 6000}
        meeting = [threads.submit(asked, server, x="meet") for _ in range(2)]
        assert [future.result(PATIENCE_S).err_no for future in meeting] == [0, 0]


# Its end


def test_every_request_ends_when_the_pipeline_closes_under_load() -> None:
    with pipeline_of(RowOp("op", [RequestOp()]), {"op": engine_of()}) as server:
        service = server.service
        going = threading.Event()

        def calls(_: int) -> list[int]:
            codes = []
            while not codes or codes[-1] == 0:
                codes.append(server_call(service, "1"))
                going.set()
            return codes

        with ThreadPoolExecutor(16) as threads:
            futures = [threads.submit(calls, one) for one in range(16)]
            assert going.wait(PATIENCE_S)
            server.close()
            ends = [future.result(PATIENCE_S)[-1] for future in futures]
    assert set(ends) == {3001}


def server_call(service: Any, x: str) -> int:
    """The number of a response by a service that may be closed."""
    from paddleinfer.errors import EngineClosed

    try:
        response: PipelineResponse = service.call(PipelineRequest(keys=["x"], values=[x]))
    except EngineClosed:
        return 3001
    return response.err_no


def test_who_asks_a_closed_pipeline_is_told_so() -> None:
    with engine_of(double) as engine:
        with pipeline_of(RowOp("op", [RequestOp()]), {"op": engine}) as server:
            assert asked(server, x="1").err_no == 0
        response = asked(server, x="1")
    assert response.err_no == 3001 and "is closed" in response.err_msg


def test_a_pipeline_is_prepared_anew() -> None:
    made: list[int] = []

    class Making(RowOp):
        def init_op(self) -> None:
            made.append(1)

    op = Making("op", [RequestOp()])
    functions: list[Callable[[Arrays], Arrays]] = [double, lambda inputs: {"y": inputs["x"] * 3}]
    server = PipelineServer("p")
    server.set_response_op(ResponseOp([op]))
    for factor, function in zip((2, 3), functions, strict=True):
        with engine_of(function) as engine:
            server.prepare_server(yml_dict={"http_port": 0}, engines={"op": engine})
            assert asked(server, x="1").value == [str(float(factor))]
            server.close()
    assert made == [1, 1]
