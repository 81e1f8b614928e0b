"""Engine.ainfer, on the stock loop and on uvloop: results, errors, and what a loop's turn hands over."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import pytest
from engine_helpers import X, assert_close, double, engine_of, gated, learn_shapes, merging, rows
from loop_helpers import Run, on_both_loops, turn_until
from zoo import Zoo

import paddleinfer

pytestmark = on_both_loops

DOUBLED = [[2.0, 2.0, 2.0]]


def test_every_task_gets_its_own_result(run: Run) -> None:
    async def main() -> None:
        with engine_of(instances=2) as engine:
            for _ in range(3):
                given = await asyncio.gather(*(engine.ainfer({"x": rows(1 + n % 3, n)}) for n in range(300)))
                for number, results in enumerate(given):
                    np.testing.assert_array_equal(results["y"], rows(1 + number % 3, 2 * number))
            assert engine.stats()["results"] == 900

    run(main())


def test_it_takes_and_gives_what_infer_does(run: Run) -> None:
    async def main() -> None:
        with paddleinfer.Engine.from_callable(
            lambda i: [i["x"], i["x"][:, 0] * 2], {"x": X}, ["a", "b"]
        ) as engine:
            for feeds in (
                {"x": rows(2)},
                [rows(2)],
                rows(2),
                {"x": [[1, 1, 1], [1, 1, 1]]},
                rows(2).astype("f8"),
            ):
                here, there = await engine.ainfer(feeds), engine.infer(feeds)
                assert list(here) == ["a", "b"]
                assert all((here[name] == there[name]).all() for name in there)
            assert list(await engine.ainfer(rows(), outputs=["b", "a"])) == ["b", "a"]
            assert list(await engine.ainfer(rows(), outputs=("b",), timeout=30)) == ["b"]

    run(main())


def test_results_are_writable_and_alias_nothing(run: Run) -> None:
    async def main() -> None:
        with merging() as (engine, gate):
            x = rows(2, 1)
            tasks = [asyncio.create_task(engine.ainfer({"x": x})) for _ in range(4)]
            await turn_until(lambda: engine.stats()["queued_requests"] == 4)
            gate.open()
            arrays = [results["y"] for results in await asyncio.gather(*tasks)]
            assert gate.sizes == [8]
            for place, array in enumerate(arrays):
                assert array.flags.writeable and array.base is None
                array[:] = -1
                assert all((other == 2).all() for other in arrays[place + 1 :])
            assert (x == 1).all()

    run(main())


def test_requests_of_one_turn_are_queued_together(run: Run) -> None:
    async def main() -> None:
        with merging() as (engine, gate):
            gate.open()
            await engine.ainfer(rows())  # so that nothing runs
            gate.shut()
            # One by one the first would run alone: an instance is idle.
            tasks = [asyncio.create_task(engine.ainfer(rows(value=n))) for n in range(8)]
            await turn_until(lambda: gate.batches)
            assert gate.batches == [list(range(8))]
            gate.open()
            assert [results["y"][0, 0] for results in await asyncio.gather(*tasks)] == [
                2 * n for n in range(8)
            ]

    run(main())


def test_results_of_one_batch_come_in_one_turn(run: Run) -> None:
    async def main() -> None:
        with merging() as (engine, gate):
            turns = 0
            ended_in: list[int] = []

            async def count_turns() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            async def call() -> None:
                await engine.ainfer(rows())
                ended_in.append(turns)

            tasks = [asyncio.create_task(call()) for _ in range(8)]
            counter = asyncio.create_task(count_turns())
            await turn_until(lambda: engine.stats()["queued_requests"] == 8)
            gate.open()
            await asyncio.gather(*tasks)
            assert gate.sizes == [8] and len(set(ended_in)) == 1
            counter.cancel()

    run(main())


def test_the_loop_goes_on_while_the_model_runs(run: Run) -> None:
    async def main() -> None:
        with gated() as (engine, gate):
            task = asyncio.create_task(engine.ainfer(rows()))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not task.done()
            gate.open()
            assert (await task)["y"].tolist() == DOUBLED

    run(main())


def test_the_tools_of_asyncio_work(run: Run) -> None:
    async def main() -> None:
        with gated() as (engine, gate):
            first = asyncio.ensure_future(engine.ainfer(rows(value=1)))
            others = [asyncio.create_task(engine.ainfer(rows(value=n))) for n in (2, 3)]
            done, pending = await asyncio.wait([first, *others], timeout=0.01)
            assert not done and len(pending) == 3
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(first), 0.01)
            gate.open()
            given = [(await ended)["y"][0, 0] for ended in asyncio.as_completed([first, *others])]
            assert sorted(given) == [2, 4, 6]
            coroutine = engine.ainfer(rows())
            assert asyncio.iscoroutine(coroutine)
            assert (await asyncio.wait_for(coroutine, 30))["y"].tolist() == DOUBLED
            wrapped = asyncio.run_coroutine_threadsafe(engine.ainfer(rows()), asyncio.get_running_loop())
            assert (await asyncio.wrap_future(wrapped))["y"].tolist() == DOUBLED

    run(main())


if sys.version_info >= (3, 11):

    def test_a_failing_task_of_a_group_cancels_the_others(run: Run) -> None:
        async def main() -> None:
            with gated() as (engine, gate):
                with pytest.raises(ExceptionGroup) as caught:  # noqa: F821 - of Python 3.11
                    async with asyncio.TaskGroup() as group:
                        tasks = [group.create_task(engine.ainfer(rows())) for _ in range(3)]
                        await turn_until(lambda: engine.stats()["queued_requests"] == 3)
                        group.create_task(engine.ainfer(rows()[0]))
                assert isinstance(caught.value.exceptions[0], paddleinfer.InvalidInput)
                assert all(task.cancelled() for task in tasks)
                assert engine.stats()["cancelled"] == 3 and engine.stats()["queued_requests"] == 0
                gate.open()
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(engine.ainfer(rows())) for _ in range(3)]
                assert all(task.result()["y"].tolist() == DOUBLED for task in tasks)

        run(main())

    def test_a_timeout_block_cancels_the_request(run: Run) -> None:
        async def main() -> None:
            with gated() as (engine, gate):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await engine.ainfer(rows())
                assert engine.stats()["cancelled"] == 1
                gate.open()

        run(main())


# Errors


def test_what_infer_refuses_is_refused_at_the_await(run: Run) -> None:
    async def main() -> None:
        with engine_of(max_queue_bytes=48) as engine:
            wrong: list[tuple[Any, dict[str, Any], str]] = [
                (rows()[0], {}, "x"),
                ({}, {}, "x"),
                ({"z": rows()}, {}, "z"),
                (rows(5), {}, "max_queue_bytes"),
                (rows(), {"outputs": ["z"]}, "z"),
                (rows(), {"timeout": -1}, "timeout must be"),
                (rows(), {"timeout": float("nan")}, "timeout must be"),
            ]
            for feeds, options, sentence in wrong:
                coroutine = engine.ainfer(feeds, **options)
                with pytest.raises(paddleinfer.InvalidInput, match=sentence) as caught:
                    await coroutine
                assert "\n" not in str(caught.value)
            assert (await engine.ainfer(rows(4)))["y"].shape == (4, 3)
            assert engine.stats()["requests"] == 1

    run(main())


def test_a_models_error_has_its_cause_and_harms_no_neighbour(run: Run) -> None:
    async def main() -> None:
        with merging() as (engine, gate):
            tasks = [asyncio.create_task(engine.ainfer(rows(value=value))) for value in (1, -1, 3, -4, 5)]
            await turn_until(lambda: engine.stats()["queued_requests"] == 5)
            gate.open()
            given = await asyncio.gather(*tasks, return_exceptions=True)
            for place in (1, 3):
                assert isinstance(given[place], paddleinfer.ModelError)
                assert isinstance(given[place].__cause__, ValueError)
            assert [given[place]["y"][0, 0] for place in (0, 2, 4)] == [2, 6, 10]

    run(main())


def test_a_paddle_model_answers_as_to_a_thread(run: Run, zoo: Zoo) -> None:
    rng = np.random.default_rng(3)
    given = [rng.standard_normal((1 + n % 4, 16)).astype("float32") for n in range(64)]
    with paddleinfer.Engine(zoo.directory("mlp", zoo.formats[0]), instances=2) as engine:
        alone = [engine.infer([x]) for x in given]
        before = learn_shapes(engine, given)

        async def main() -> None:
            for _ in range(5):
                for actual, expected in zip(
                    await asyncio.gather(*(engine.ainfer([x]) for x in given)), alone, strict=True
                ):
                    assert_close(actual, expected)

        run(main())
        assert engine.stats()["executions"] < before["executions"] + 5 * 64


def test_calling_from_inside_its_own_model_is_refused(run: Run) -> None:
    said: list[str] = []

    def calls_itself(inputs: dict[str, np.ndarray]) -> Any:
        async def inside() -> None:
            with pytest.raises(paddleinfer.PaddleInferError, match="inside its own model") as caught:
                await engine.ainfer(inputs)
            said.append(str(caught.value))

        run(inside())
        return double(inputs)

    with engine_of(calls_itself) as engine:
        assert engine.infer(rows())
    assert len(said) == 1
