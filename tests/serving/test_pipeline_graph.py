"""The graph of a pipeline's Ops: what goes through it, and what is none is refused before any request."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Gate, engine_of
from serving_pipelines import RowOp, asked, pipeline_of

from paddleinfer.errors import ConfigError
from paddleinfer.serving import Op, PipelineServer, RequestOp, ResponseOp, VirtualOp, WebService

# What goes through it


def test_an_op_gets_the_outputs_of_all_before_it_each_its_own() -> None:
    class Appending(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            ((_, given),) = input_dicts.items()
            given["list"].append(self.name)
            given["array"] += 1
            return given, False, None, ""

    class Beginning(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            return {"list": [], "array": np.zeros(1)}, False, None, ""

    class Ending(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            found = {name: (given["list"], given["array"].tolist()) for name, given in input_dicts.items()}
            return {"found": str(found)}, False, None, ""

    begin = Beginning("begin", [RequestOp()])
    left, right = Appending("left", [begin]), Appending("right", [begin])
    virtual = VirtualOp("v")
    virtual.add_virtual_pred_op(right)
    with pipeline_of(Ending("end", [left, virtual])) as server:
        found = eval(asked(server, x="1").value[0])
    assert found == {"left": (["left"], [1.0]), "right": (["right"], [1.0])}


def test_models_of_two_branches_run_at_the_same_time() -> None:
    gates = {"left": Gate(), "right": Gate()}
    engines = {name: engine_of(gate) for name, gate in gates.items()}

    class Sum(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            return {"y": "+".join(given["y"] for given in input_dicts.values())}, False, None, ""

    read_op = RequestOp()
    last = Sum("sum", [RowOp("left", [read_op]), RowOp("right", [read_op])])
    with pipeline_of(last, engines) as server, ThreadPoolExecutor(1) as threads:
        future = threads.submit(asked, server, x="2")
        for gate in gates.values():
            gate.wait_entered()
        for gate in gates.values():
            gate.open()
        assert future.result(PATIENCE_S).value == ["4.0+4.0"]


def test_an_op_jumps_back_until_it_is_done() -> None:
    class Counting(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            ((_, given),) = input_dicts.items()
            return {"n": str(int(given["n"]) + 1)}, True, None, ""

        def check_jumping(self, input_data: Any) -> bool:
            (data,) = input_data.values()
            return int(data.parse()["n"]) < 10

    begin = Op("begin", [RequestOp()])
    counting = Counting("counting", [begin], jump_to_ops=[begin])
    with pipeline_of(Op("end", [counting])) as server:
        assert asked(server, n="3").value == ["10"]
        assert asked(server, n="11").value == ["12"]


def test_a_jump_in_the_place_of_two_ops_runs_the_one_after_both_once() -> None:
    met: list[dict[str, str]] = []

    class Meeting(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            met.append({name: given["n"] for name, given in input_dicts.items()})
            return {"n": str(sum(int(given["n"]) for given in input_dicts.values()) + 1)}, True, None, ""

    class Again(Op):
        def check_jumping(self, input_data: Any) -> bool:
            return len(met) < 3

    read_op = RequestOp()
    left, right = Op("left", [read_op]), Op("right", [read_op])
    again = Again("again", [Meeting("meeting", [left, right])], jump_to_ops=[left, right])
    with pipeline_of(Op("end", [again])) as server:
        assert asked(server, n="1").value == ["5"]
    assert met == [{"left": "1", "right": "1"}, {"again": "3"}, {"again": "4"}]


def test_a_loop_without_an_end_is_ended() -> None:
    class Forever(Op):
        def check_jumping(self, input_data: Any) -> bool:
            return True

    begin = Op("begin", [RequestOp()])
    with pipeline_of(Op("end", [Forever("again", [begin], jump_to_ops=begin)])) as server:
        response = asked(server, x="1")
    assert response.err_no == 10000 and "jumped 10000 times" in response.err_msg


# What is refused


def a_circle() -> list[Op]:
    first = Op("first", [RequestOp()])
    second = Op("second", [first])
    first.set_input_ops([second])
    return [second]


def two_of_a_name() -> list[Op]:
    read_op = RequestOp()
    return [Op("end", [Op("same", [read_op]), Op("same", [read_op])])]


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        (lambda: [], "must have one Op before it, and has 0"),
        (lambda: [Op("a", [RequestOp()]), Op("b", [RequestOp()])], "and has 2"),
        (lambda: [Op("a")], "Op 'a' has no input_ops"),
        (lambda: [Op("a", [RequestOp(), RequestOp()])], "begins with one RequestOp, and this one has 2"),
        (a_circle, "round in a circle \\(second, first, second\\)"),
        (two_of_a_name, "two Ops are named 'same'"),
        (lambda: [Op("a", [RequestOp()], jump_to_ops=[Op("b")])], "jumps to 'b', which the pipeline has not"),
        (lambda: [VirtualOp("v")], "and has 0"),
    ],
)
def test_what_is_no_graph_is_said(last: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PipelineServer().set_response_op(ResponseOp(last()))


def test_what_is_no_op_is_said() -> None:
    for wrong in (3, [3], "op"):
        with pytest.raises(ConfigError, match="input_ops of Op 'a' must be an Op, or a list of Ops"):
            Op("a", wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a pipeline ends with a ResponseOp"):
        PipelineServer().set_response_op(Op("a"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="an Op's name must be a text"):
        Op(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a web service's name must be a text, not 3"):
        WebService(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a pipeline's name must be a text, not 3"):
        PipelineServer(3)  # type: ignore[arg-type]

    class Forgetful(Op):
        def __init__(self) -> None:
            self.size = 3

    with pytest.raises(ConfigError, match=r"Forgetful.__init__ must call super\(\).__init__\(\)"):
        PipelineServer().set_response_op(ResponseOp([Forgetful()]))
    with pytest.raises(ConfigError, match="must return the last Op, and returned None"):
        WebService().prepare_pipeline_config(yml_dict={"http_port": 0})


def test_functions_with_other_parameters_are_refused_before_any_request() -> None:
    class TooMany(Op):
        def preprocess(self, a: Any, b: Any, c: Any, d: Any) -> Any:  # type: ignore[override]
            return a

    class Async(Op):
        async def postprocess(self, input_dicts: Any, fetch_dict: Any) -> Any:  # type: ignore[override]
            return {}

    for kind, sentence in ((TooMany, "preprocess of Op 'op' takes 4 values beside self"), (Async, "plain")):
        with pytest.raises(ConfigError, match=sentence), pipeline_of(kind("op", [RequestOp()])):
            raise AssertionError("it was prepared")


def test_what_is_called_too_soon_says_what_comes_before() -> None:
    server = PipelineServer("p")
    for call, sentence in (
        (lambda: server.prepare_server(yml_dict={"http_port": 0}), "call set_response_op before"),
        (server.run_server, "call prepare_server first"),
        (server.application, "call prepare_server first"),
        (server.effective_config, "call prepare_server before"),
        (lambda: asked(server, x="1"), "call prepare_server first"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            call()


def test_virtual_ops_in_a_circle_or_in_many_ways_end() -> None:
    circle = VirtualOp("circle")
    circle.add_virtual_pred_op(circle)
    with pytest.raises(ConfigError, match="'last' has no input_ops"):
        PipelineServer().set_response_op(ResponseOp([Op("last", circle)]))
    virtual = VirtualOp("v")
    virtual.add_virtual_pred_op(RequestOp())
    for number in range(64):  # 2**64 ways
        before, virtual = virtual, VirtualOp(f"v{number}")
        virtual.set_input_ops([before, before])
    PipelineServer().set_response_op(ResponseOp([Op("last", virtual)]))
