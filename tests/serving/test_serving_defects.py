"""What Paddle Serving's batching did wrong, as its code reads: none of it happens here."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Arrays, Gate, echo_engine, engine_of, eventually
from serving_pipelines import asked, pipeline_of

from paddleinfer import Engine
from paddleinfer.models.serving_conf import ELEM_TYPES
from paddleinfer.serving import Op, PipelineServer, RequestOp
from paddleinfer.serving.formats.pipeline import PipelineRequest
from paddleinfer.serving.formats.tensors import web_fields_of

THREADS = 64


class WidthOp(Op):
    """Asks with rows of the client's width, and gives all that comes back."""

    def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
        ((_, given),) = input_dicts.items()
        width, value = (int(part) for part in given["x"].split(","))
        return {"x": np.full((1, width), value, "float32")}, False, None, ""

    def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int, log_id: int) -> Any:
        return {"y": str(fetch_dict["y"].tolist())}, None, ""


def texts(count: int) -> Iterator[tuple[str, str]]:
    for one in range(count):
        width = 1 + one % 7
        yield f"{width},{one}", str([[float(one)] * width])


def all_answered(server: PipelineServer, pairs: list[tuple[str, str]]) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        responses = list(threads.map(lambda pair: asked(server, x=pair[0]), pairs))
    assert [(one.err_no, one.value) for one in responses] == [(0, [expected]) for _, expected in pairs]


def test_callers_of_a_run_that_fails_are_told_and_none_waits_for_ever() -> None:
    def failing(inputs: Arrays) -> Arrays:
        raise ValueError("no")

    with (
        pipeline_of(WidthOp("op", [RequestOp()]), {"op": engine_of(failing)}) as server,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        futures = [threads.submit(asked, server, x="3,1") for _ in range(THREADS)]
        assert {future.result(PATIENCE_S).err_no for future in futures} == {9000}


def test_a_model_that_gives_other_rows_than_it_got_answers_every_caller() -> None:
    def boxes(inputs: Arrays) -> Arrays:
        found = int(inputs["x"].sum())
        return {"y": np.arange(found, dtype="float32")[:, None]}

    engine = Engine.from_callable(boxes, {"x": ("float32", (-1, -1))}, ["y"], instances=2)
    with pipeline_of(WidthOp("op", [RequestOp()]), {"op": engine}) as server:
        pairs = [(f"1,{one % 5}", str([[float(box)] for box in range(one % 5)])) for one in range(256)]
        all_answered(server, pairs)


def test_requests_of_several_widths_get_their_own_width_back() -> None:
    with pipeline_of(WidthOp("op", [RequestOp()]), {"op": echo_engine(shape=(-1, -1))}) as server:
        all_answered(server, list(texts(512)))


def test_a_request_of_another_width_does_not_hold_up_those_behind_it() -> None:
    gate = Gate()
    engine = Engine.from_callable(gate, {"x": ("float32", (-1, -1))}, ["y"], instances=1, max_batch_size=8)
    with (
        pipeline_of(WidthOp("op", [RequestOp()]), {"op": engine}) as server,
        ThreadPoolExecutor(16) as threads,
    ):
        first = threads.submit(asked, server, x="3,0")
        gate.wait_entered()
        others = [threads.submit(asked, server, x=f"{3 + (one % 2)},{one}") for one in range(1, 13)]
        eventually(lambda: engine.stats()["queued_requests"] == 12)
        gate.open()
        assert first.result(PATIENCE_S).err_no == 0
        assert {future.result(PATIENCE_S).err_no for future in others} == {0}


@pytest.mark.parametrize("dtype", ELEM_TYPES)
def test_rows_of_every_type_are_merged_and_split_right(dtype: str) -> None:
    np_dtype = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)

    class Passing(Op):
        def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int, log_id: int) -> Any:
            return {"equal": str(bool((fetch_dict["y"] == given(log_id)).all()))}, None, ""

    def given(number: int) -> Any:
        return (np.arange(3)[None] + number % 2).astype(np_dtype)

    def told(number: int) -> list[str]:
        request = PipelineRequest(tensors=[web_fields_of("x", given(number))], log_id=number)
        return server.call(request).value

    with (
        pipeline_of(Passing("op", [RequestOp()]), {"op": echo_engine(dtype)}) as server,
        ThreadPoolExecutor(16) as threads,
    ):
        assert list(threads.map(told, range(64))) == [["True"]] * 64


def test_a_request_larger_than_a_batch_is_put_together_in_order() -> None:
    class Rows(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            ((_, texts),) = input_dicts.items()
            return {"x": np.arange(int(texts["x"]) * 3, dtype="float32").reshape(-1, 3)}, False, None, ""

        def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int, log_id: int) -> Any:
            return {"y": str(fetch_dict["y"].tolist())}, None, ""

    with pipeline_of(Rows("op", [RequestOp()]), {"op": engine_of(max_batch_size=4)}) as server:
        pairs = []
        for one in range(128):
            rows = np.arange((1 + one % 11) * 3, dtype="float32").reshape(-1, 3) * 2
            pairs.append((str(1 + one % 11), str(rows.tolist())))
        all_answered(server, pairs)


def test_a_row_that_stays_the_same_is_no_constant_of_the_batch() -> None:
    """An input of one row among others of several was taken for one that all requests share."""

    def both(inputs: Arrays) -> Arrays:
        return {"y": inputs["x"] + inputs["scale"]}

    class Two(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            row = np.full((1, 3), log_id, "float32")
            return {"x": row, "scale": row * (1 + log_id % 2)}, False, None, ""

        def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int, log_id: int) -> Any:
            return {"y": str(float(fetch_dict["y"][0, 0]))}, None, ""

    inputs = {name: ("float32", (-1, 3)) for name in ("x", "scale")}
    with (
        pipeline_of(Two("op", [RequestOp()]), {"op": Engine.from_callable(both, inputs, ["y"])}) as server,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        responses = list(threads.map(lambda one: asked(server, one, x="1"), range(256)))
    assert [one.value for one in responses] == [[str(float(one * (2 + one % 2)))] for one in range(256)]
