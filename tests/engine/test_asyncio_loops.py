"""Many loops: one after another, at once, closed with work in flight; what they hold and what they free."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Gate, engine_of, eventually, gated, rows, run_threads
from loop_helpers import Run, event_descriptors, new_loop, on_both_loops, open_descriptors, turn_until

import paddleinfer

pytestmark = on_both_loops

DOUBLED = [[2.0, 2.0, 2.0]]


async def ask(engine: paddleinfer.Engine, value: float = 1) -> np.ndarray:
    return (await engine.ainfer(rows(value=value)))["y"][0, 0]


# Descriptors


def test_a_thousand_loops_on_one_engine_leave_no_descriptor_behind(run: Run) -> None:
    with engine_of() as engine:
        for _ in range(3):
            run(ask(engine))
        before = open_descriptors()
        for number in range(1000):
            assert run(ask(engine, number)) == 2 * number
            if number % 250 == 0:
                assert event_descriptors() <= 2
        assert open_descriptors() == before
        assert engine.stats()["results"] == 1003


def test_a_hundred_engines_on_one_loop_leave_no_descriptor_behind(run: Run) -> None:
    async def main() -> None:
        before = event_descriptors()
        for _ in range(100):
            with engine_of() as engine:
                await asyncio.gather(ask(engine), ask(engine))
        await turn_until(lambda: event_descriptors() == before)

    run(main())


def test_an_engine_closed_with_requests_under_way_frees_its_descriptor(run: Run) -> None:
    async def main() -> None:
        before = event_descriptors()
        gate = Gate()
        engine = engine_of(gate)
        tasks = [asyncio.create_task(ask(engine)) for _ in range(3)]
        await turn_until(lambda: gate.batches)
        assert event_descriptors() == before + 1
        closer = threading.Thread(target=engine.close)
        closer.start()
        await turn_until(lambda: engine.closed)
        await asyncio.sleep(0.01)
        gate.open()
        assert await asyncio.gather(*tasks) == [2, 2, 2]
        await asyncio.to_thread(closer.join)
        await turn_until(lambda: event_descriptors() == before)

    run(main())


def test_a_dropped_engine_frees_its_descriptor_while_the_loop_goes_on(run: Run) -> None:
    async def main() -> None:
        before = event_descriptors()
        engine = engine_of()
        core = weakref.ref(engine._generation.core)
        assert await ask(engine) == 2
        assert event_descriptors() == before + 1
        del engine
        await turn_until(lambda: event_descriptors() == before)
        await turn_until(lambda: core() is None)

    run(main())


@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
def test_a_loop_that_is_dropped_is_let_go_of(run: Run) -> None:
    with engine_of() as engine:
        before = event_descriptors()
        loop = new_loop(run)
        assert loop.run_until_complete(ask(engine)) == 2
        assert event_descriptors() > before
        if run is not asyncio.run:
            loop.close()  # uvloop never frees a loop that was not closed
        kept = weakref.ref(loop)
        del loop
        assert eventually(lambda: kept() is None)
        assert eventually(lambda: event_descriptors() == before)
        assert run(ask(engine)) == 2


# Loops that end early


def leave_under_way(engine: paddleinfer.Engine, run: Run, count: int) -> None:
    """Closes a loop with requests in flight."""
    loop = new_loop(run)
    tasks: list[Any] = [loop.create_task(ask(engine)) for _ in range(count)]
    queued = engine.stats()["requests"] + count

    async def until_queued() -> None:
        await turn_until(lambda: engine.stats()["requests"] == queued)

    loop.run_until_complete(until_queued())
    for task in tasks:
        task._log_destroy_pending = False  # they stay unfinished on purpose
    loop.close()


def test_a_loop_closed_with_work_in_flight_harms_nobody(run: Run) -> None:
    with gated() as (engine, gate):
        before = event_descriptors()
        for _ in range(3):
            leave_under_way(engine, run, 5)
        waiting = engine.submit(rows())
        gate.open()
        assert waiting.result(PATIENCE_S)["y"].tolist() == DOUBLED
        assert run(ask(engine, 3)) == 6
        assert eventually(lambda: event_descriptors() == before)
        engine.close()
        stats = engine.stats()
        ends = sum(stats[end] for end in ("results", "errors", "cancelled", "expired", "closed"))
        assert stats["requests"] == ends and stats["queued_requests"] == 0


def test_what_a_closed_loop_had_under_way_is_freed(run: Run) -> None:
    class Owner(np.ndarray):
        pass

    with gated() as (engine, gate):
        owner = rows().view(Owner)
        x, kept = owner.view(np.ndarray), weakref.ref(owner)
        del owner
        loop = new_loop(run)
        task: Any = loop.create_task(engine.ainfer({"x": x}))
        loop.run_until_complete(turn_until(lambda: engine.stats()["queued_requests"] == 1))
        task._log_destroy_pending = False  # it stays unfinished on purpose
        loop.close()
        del task, loop, x
        gate.open()
        assert run(ask(engine)) == 2
        assert eventually(lambda: (engine.infer(rows()), kept() is None)[1])


def test_asyncio_run_that_fails_with_tasks_under_way_cancels_them(run: Run) -> None:
    async def main(engine: paddleinfer.Engine) -> None:
        tasks = [asyncio.create_task(ask(engine)) for _ in range(5)]
        await turn_until(lambda: engine.stats()["queued_requests"] == 5)
        assert len(tasks) == 5
        raise ZeroDivisionError

    with gated() as (engine, gate):
        with pytest.raises(ZeroDivisionError):
            run(main(engine))
        assert engine.stats()["cancelled"] == 5 and engine.stats()["queued_requests"] == 0
        gate.open()
        assert run(ask(engine)) == 2


# Several at once


def test_loops_in_several_threads_share_an_engine(run: Run) -> None:
    with engine_of(instances=2) as engine:

        async def main(number: int) -> None:
            for turn in range(20):
                values = [number * 1000 + turn * 20 + place for place in range(20)]
                given = await asyncio.gather(*(ask(engine, value) for value in values))
                assert given == [2 * value for value in values]

        run_threads(6, lambda number: run(main(number)))
        assert engine.stats()["results"] == 6 * 20 * 20


def test_loops_and_threads_and_futures_share_an_engine(run: Run) -> None:
    with engine_of(instances=2) as engine:

        async def main(number: int) -> None:
            for turn in range(20):
                wrapped = asyncio.wrap_future(engine.submit(rows(value=number)))
                given = await asyncio.gather(*(ask(engine, number) for _ in range(10)), wrapped)
                assert given[:10] == [2 * number] * 10 and given[10]["y"][0, 0] == 2 * number, turn

        def call(number: int) -> None:
            for _ in range(100):
                assert engine.infer(rows(value=number))["y"][0, 0] == 2 * number

        run_threads(6, lambda number: run(main(number)) if number % 2 else call(number))


def test_loops_that_come_and_go_in_threads_while_the_engine_closes(run: Run) -> None:
    engine = engine_of(instances=2)
    ended = [0] * 5

    def call(number: int) -> None:
        if number == 4:
            assert eventually(lambda: sum(ended) > 100, PATIENCE_S)
            engine.close(timeout=PATIENCE_S)
            return
        while True:
            try:
                assert run(ask(engine)) == 2
            except paddleinfer.EngineClosed:
                return
            ended[number] += 1

    run_threads(5, call)
    assert engine.stats()["results"] == sum(ended)


def test_two_engines_on_one_loop_do_not_disturb_each_other(run: Run) -> None:
    async def main() -> None:
        with gated() as (first, gate), engine_of() as second:
            held = asyncio.create_task(ask(first))
            assert await ask(second) == 2
            await asyncio.to_thread(second.close)
            assert not held.done()
            gate.open()
            assert await held == 2

    run(main())


def test_deadlines_of_several_loops_are_each_kept(run: Run) -> None:
    with gated() as (engine, _):

        async def main(number: int) -> None:
            begin = time.monotonic()
            with pytest.raises(paddleinfer.DeadlineExceeded):
                await engine.ainfer(rows(), timeout=0.02 * (number + 1))
            assert time.monotonic() - begin >= 0.02 * (number + 1)

        run_threads(4, lambda number: run(main(number)))
        assert engine.stats()["expired"] == 4
