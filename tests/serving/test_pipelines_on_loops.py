"""Pipelines asked from an event loop, where requests that come together go from part to part."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from engine_helpers import Arrays, Gate, double, engine_of
from serving_pipelines import pipeline_of

from paddleinfer.serving import Op, PipelineServer, RequestOp
from paddleinfer.serving.formats.pipeline import PipelineRequest, PipelineResponse

TASKS = 64


class KeepingOp(Op):
    """Rows of the client's number, one dict for each; what postprocess needs it keeps on itself."""

    def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
        self.numbers = [float(number) for given in input_dicts.values() for number in given["x"].split(",")]
        feeds = [{"x": np.full((1, 3), number, "float32")} for number in self.numbers]
        return (feeds if log_id % 2 else feeds[0]), log_id == 7, None, ""

    def postprocess(self, input_dicts: Any, fetch_dict: Any, data_id: int, log_id: int) -> Any:
        results = fetch_dict if isinstance(fetch_dict, list) else [fetch_dict]
        found = [float(one["y" if "y" in one else "x"][0, 0]) for one in results]
        assert log_id == 7 or found == [2 * number for number in self.numbers[: len(found)]]
        return {"x": ",".join(map(str, found))}, None, ""


def asking(server: PipelineServer, x: str, log_id: int = 0, **how: Any) -> Awaitable[PipelineResponse]:
    return server.answer(PipelineRequest(keys=["x"], values=[x], log_id=log_id), **how)


def together(asked: Callable[[], list[Awaitable[Any]]]) -> list[Any]:
    async def gathered() -> list[Any]:
        return await asyncio.gather(*asked(), return_exceptions=True)

    return asyncio.run(gathered())


def fails_below_zero(inputs: Arrays) -> Arrays:
    if (inputs["x"] < 0).any():
        raise ValueError("negative")
    return double(inputs)


@pytest.mark.parametrize("is_thread_op", [True, False])
def test_many_tasks_get_their_own_answers(is_thread_op: bool) -> None:
    last = KeepingOp("second", [KeepingOp("first", [RequestOp()])])
    engines = {"first": engine_of(), "second": engine_of()}
    with pipeline_of(last, engines, dag={"is_thread_op": is_thread_op}, first={"concurrency": 2}) as server:
        asked = [(f"{one},{one + 1}", one % 8) for one in range(4 * TASKS)]
        responses = together(lambda: [asking(server, x, log_id) for x, log_id in asked])
    for number, ((_, log_id), response) in enumerate(zip(asked, responses, strict=True)):
        factor = 1 if log_id == 7 else 4
        values = [number, number + 1] if log_id % 2 else [number]
        assert response.value == [",".join(str(float(factor * value)) for value in values)]


def test_a_failing_model_fails_its_own_request_and_no_other() -> None:
    with pipeline_of(KeepingOp("op", [RequestOp()]), {"op": engine_of(fails_below_zero)}) as server:
        numbers = [-1 if one % 3 == 0 else one for one in range(TASKS)]
        responses = together(lambda: [asking(server, str(one), one % 2) for one in numbers])
    assert [one.err_no for one in responses] == [9000 if number < 0 else 0 for number in numbers]


def test_models_of_two_branches_run_at_the_same_time_and_one_that_fails_ends_the_other() -> None:
    gates = {"left": Gate(), "right": Gate()}

    class Joined(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            return {"x": "+".join(given["x"] for given in input_dicts.values())}, True, None, ""

    read_op = RequestOp()
    last = Joined("joined", [KeepingOp("left", [read_op]), KeepingOp("right", [read_op])])
    engines = {name: engine_of(gate) for name, gate in gates.items()}
    with pipeline_of(last, engines) as server:

        async def both() -> list[PipelineResponse]:
            tasks = [asyncio.ensure_future(asking(server, str(one))) for one in (2, 3)]
            for gate in gates.values():
                await asyncio.to_thread(gate.wait_entered)
            for gate in gates.values():
                gate.open()
            return await asyncio.gather(*tasks)

        assert [one.value for one in asyncio.run(both())] == [["4.0+4.0"], ["6.0+6.0"]]

    broken = {"left": engine_of(fails_below_zero), "right": engine_of()}
    with pipeline_of(last, broken) as server:
        responses = together(lambda: [asking(server, str(one)) for one in (-1, 3, -1, 4)])
        assert [one.err_no for one in responses] == [9000, 0, 9000, 0]


def test_a_run_that_takes_too_long_is_tried_again_and_then_ends_with_its_number() -> None:
    gate = Gate()
    passes: list[int] = []

    class Pre(KeepingOp):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            passes.append(log_id)
            return super().preprocess(input_dicts, data_id, log_id)

    op = {"timeout": 20, "retry": 2}
    engines = {"op": engine_of(gate, instances=1)}
    with pipeline_of(Pre("op", [RequestOp()]), engines, dag={"retry": 3}, op=op) as server:
        responses = together(lambda: [asking(server, "1") for _ in range(4)])
        gate.open()
    assert {one.err_no for one in responses} == {6000} and len(passes) == 4 * 3


def test_the_deadline_and_the_end_of_a_task_leave_nothing_behind() -> None:
    gate = Gate()
    engine = engine_of(gate, instances=1)
    with pipeline_of(KeepingOp("op", [RequestOp()]), {"op": engine}) as server:

        async def ends() -> None:
            late = [asking(server, "1", timeout=0.02) for _ in range(8)]
            tasks = [asyncio.ensure_future(asking(server, "1")) for _ in range(8)]
            assert {one.err_no for one in await asyncio.gather(*late)} == {6000}
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in ended)
            gate.open()
            assert [one.err_no for one in await asyncio.gather(asking(server, "1"), asking(server, "2"))] == [
                0,
                0,
            ]

        asyncio.run(ends())
        assert server.service.calls.under_way == 0
        outcomes = server.service.stats()["outcomes"]
        assert (outcomes["expired"], outcomes["cancelled"], outcomes["result"]) == (8, 8, 2)


def test_every_task_ends_when_the_pipeline_closes_under_load() -> None:
    with pipeline_of(KeepingOp("op", [RequestOp()]), {"op": engine_of()}) as server:
        service = server.service

        async def calls(begun: asyncio.Event) -> BaseException:
            while True:
                try:
                    await service.acall(PipelineRequest(keys=["x"], values=["1"]))
                except Exception as error:
                    return error
                begun.set()

        async def closed() -> set[str]:
            begun = asyncio.Event()
            tasks = [asyncio.ensure_future(calls(begun)) for _ in range(16)]
            await begun.wait()
            await asyncio.to_thread(server.close)
            return {type(error).__name__ for error in await asyncio.gather(*tasks)}

        assert asyncio.run(closed()) == {"EngineClosed"}


def test_a_function_that_raises_or_exits_ends_its_request_alone() -> None:
    class Raising(Op):
        def preprocess(self, input_dicts: Any, data_id: int, log_id: int) -> Any:
            ((_, given),) = input_dicts.items()
            if given["x"] == "exit":
                raise SystemExit(3)
            if given["x"] == "stop":
                raise StopIteration
            return {"x": given["x"]}, True, None, ""

    with pipeline_of(Raising("op", [RequestOp()])) as server:
        words = ["a", "exit", "b", "stop"] * 8
        responses = together(lambda: [asking(server, word) for word in words])
    assert [one.err_no for one in responses] == [0, 10000] * 16
