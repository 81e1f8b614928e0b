"""How a request of an event loop may end: cancelled, late, refused, closed; each once, and in time."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, SOON_S, Gate, engine_of, eventually, gated, merging, rows
from loop_helpers import Run, new_loop, on_both_loops, turn_until

import paddleinfer

pytestmark = on_both_loops

ENDS = ("results", "errors", "cancelled", "expired", "closed")


def assert_all_ended(engine: paddleinfer.Engine) -> None:
    stats = engine.stats()
    assert stats["requests"] == sum(stats[end] for end in ENDS), stats
    assert stats["queued_requests"] == stats["queued_bytes"] == stats["requests_waiting_for_room"] == 0


class Owner(np.ndarray):
    """An array that can be watched."""


def watched() -> tuple[np.ndarray, weakref.ref[Owner]]:
    owner = rows().view(Owner)
    return owner.view(np.ndarray), weakref.ref(owner)


# Cancelled


def test_a_cancelled_task_cancels_its_queued_request_which_never_runs(run: Run) -> None:
    async def main() -> None:
        with merging() as (engine, gate):
            x, kept = watched()
            task = asyncio.create_task(engine.ainfer({"x": x}))
            del x
            neighbour = asyncio.create_task(engine.ainfer(rows(value=5)))
            await turn_until(lambda: engine.stats()["queued_requests"] == 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert engine.stats()["cancelled"] == 1 and engine.stats()["queued_requests"] == 1
            del task
            assert eventually(lambda: kept() is None), "a cancelled request gives its input back at once"
            gate.open()
            assert (await neighbour)["y"][0, 0] == 10
            assert gate.batches == [[5]]
        assert_all_ended(engine)

    run(main())


def test_a_task_that_is_cancelled_in_its_first_turn_is_never_queued(run: Run) -> None:
    async def main() -> None:
        with gated() as (engine, gate):
            x, kept = watched()
            before = engine.stats()["requests"]
            task = asyncio.create_task(engine.ainfer({"x": x}))
            not_begun = asyncio.create_task(engine.ainfer({"x": x}))
            del x
            not_begun.cancel()
            loop = asyncio.get_running_loop()
            loop.call_soon(task.cancel)  # after the task's first step, before the turn's requests are queued
            await asyncio.gather(task, not_begun, return_exceptions=True)
            assert task.cancelled() and not_begun.cancelled()
            del task, not_begun
            assert engine.stats()["requests"] == before
            gate.open()
            assert (await engine.ainfer(rows()))["y"].tolist() == [[2, 2, 2]]
            assert eventually(lambda: kept() is None)
        assert_all_ended(engine)

    run(main())


def test_cancelling_a_running_request_frees_its_task_at_once(run: Run) -> None:
    async def main() -> None:
        with merging() as (engine, gate):
            tasks = [asyncio.create_task(engine.ainfer(rows(value=n))) for n in range(3)]
            await turn_until(lambda: engine.stats()["queued_requests"] == 3)
            gate.let_one_through()
            await turn_until(lambda: gate.batches)
            tasks[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[1]
            assert engine.stats()["cancelled"] == 1 and engine.stats()["running_executions"] == 1
            gate.open()
            assert [(await tasks[n])["y"][0, 0] for n in (0, 2)] == [0, 4]
            assert gate.batches == [[0, 1, 2]]
        assert_all_ended(engine)

    run(main())


def test_wait_for_cancels_the_request(run: Run) -> None:
    async def main() -> None:
        with gated() as (engine, gate):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(engine.ainfer(rows()), 0.01)
            assert engine.stats()["cancelled"] == 1 and engine.stats()["queued_requests"] == 0
            gate.open()
        assert_all_ended(engine)
        assert gate.ran == [-1]

    run(main())


def test_a_task_that_nobody_keeps_runs_to_its_end(run: Run) -> None:
    async def main() -> None:
        with gated() as (engine, gate):
            for _ in range(20):
                asyncio.ensure_future(engine.ainfer(rows()))  # noqa: RUF006
            await turn_until(lambda: engine.stats()["queued_requests"] == 20)
            gc.collect()
            gate.open()
            await turn_until(lambda: engine.stats()["results"] == 21)
        assert_all_ended(engine)

    run(main())


def test_a_coroutine_that_is_never_awaited_queues_nothing(run: Run) -> None:
    async def main() -> None:
        with engine_of() as engine:
            engine.ainfer(rows()).close()
            assert engine.stats()["requests"] == 0

    run(main())


# Late. Real clock: deadlines are what is tested, with room for a slow machine.


def test_a_deadline_holds_while_queued_and_while_the_model_hangs(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        engine = engine_of(gate)
        try:
            seconds = 0.025
            while not gate.batches:  # a busy machine may not begin in time
                seconds *= 4
                begin = time.monotonic()
                running = asyncio.create_task(engine.ainfer(rows(), timeout=seconds))
                await turn_until(lambda running=running: gate.batches or running.done())
            queued = asyncio.create_task(engine.ainfer(rows(), timeout=0.05))
            for task, allowed_s in ((queued, 0.05), (running, seconds)):
                with pytest.raises(paddleinfer.DeadlineExceeded, match=f"no result within {allowed_s} s"):
                    await task
                assert time.monotonic() - begin >= allowed_s
            assert time.monotonic() - begin < seconds + SOON_S
            assert engine.stats()["expired"] == engine.stats()["requests"]
        finally:
            gate.open()
            engine.close()
        assert gate.sizes == [1]
        assert_all_ended(engine)

    run(main())


def test_a_sooner_deadline_that_comes_later_is_kept(run: Run) -> None:
    async def main() -> None:
        with gated() as (engine, gate):
            late = asyncio.create_task(engine.ainfer(rows(), timeout=60))
            await turn_until(lambda: engine.stats()["queued_requests"] == 1)
            begin = time.monotonic()
            with pytest.raises(paddleinfer.DeadlineExceeded):
                await engine.ainfer(rows(), timeout=0.02)
            assert time.monotonic() - begin < SOON_S
            gate.open()
            assert await late

    run(main())


def test_deadlines_hold_while_other_timers_wake_the_loop(run: Run) -> None:
    async def main() -> None:
        async def turn() -> None:
            while True:
                await asyncio.sleep(0.001)

        turning = asyncio.create_task(turn())
        with gated(policy="eager") as (engine, _):
            for _ in range(20):  # uvloop counts whole milliseconds, and its timers come up to one too soon
                with pytest.raises(paddleinfer.DeadlineExceeded):
                    await asyncio.wait_for(engine.ainfer({"x": rows()}, timeout=0.02), PATIENCE_S)
        turning.cancel()

    run(main())


def test_the_default_timeout_holds(run: Run) -> None:
    async def main() -> None:
        with gated(default_timeout=0.02) as (engine, gate):
            with pytest.raises(paddleinfer.DeadlineExceeded, match=r"0\.02 s"):
                await engine.ainfer(rows())
            patient = asyncio.create_task(engine.ainfer(rows(), timeout=PATIENCE_S))
            await turn_until(lambda: engine.stats()["queued_requests"] == 1)
            gate.open()
            assert await patient

    run(main())


@pytest.mark.parametrize("timeout", [0, 1e-9, 5e-324])
def test_a_deadline_that_has_passed_already_is_late(run: Run, timeout: float) -> None:
    async def main() -> None:
        with gated() as (engine, gate):
            tasks = [asyncio.create_task(engine.ainfer(rows(), timeout=timeout)) for _ in range(10)]
            given = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(error, paddleinfer.DeadlineExceeded) for error in given)
            gate.open()
        assert_all_ended(engine)
        assert gate.ran == [-1]

    run(main())


@pytest.mark.parametrize("timeout", [1e5, 1e300, 2**70])
def test_huge_timeouts_are_as_good_as_none(run: Run, timeout: float) -> None:
    async def main() -> None:
        with engine_of() as engine:
            assert await engine.ainfer(rows(), timeout=timeout)

    run(main())


# Refused


def test_a_full_queue_refuses_at_the_await_and_says_when_to_come_back(run: Run) -> None:
    async def main() -> None:
        with gated(max_queue_rows=4) as (engine, gate):
            tasks = [asyncio.create_task(engine.ainfer(rows())) for _ in range(10)]
            done, held = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            await turn_until(lambda: sum(task.done() for task in tasks) == 6)
            held = [task for task in tasks if not task.done()]
            for task in tasks[4:]:
                error = task.exception()
                assert isinstance(error, paddleinfer.QueueFull) and 0 < error.retry_after_s < 3600
            assert held == tasks[:4] and engine.stats()["refused"] == 6 and done
            gate.open()
            assert all(results["y"].tolist() == [[2, 2, 2]] for results in await asyncio.gather(*held))
        assert_all_ended(engine)

    run(main())


# Closed


def test_after_close_and_after_a_with_block_it_says_closed(run: Run) -> None:
    async def main() -> None:
        with engine_of() as engine:
            assert await engine.ainfer(rows())
        for _ in range(2):
            with pytest.raises(paddleinfer.EngineClosed, match="is closed"):
                await engine.ainfer(rows())
        assert_all_ended(engine)

    run(main())


def test_an_engine_that_closes_in_the_turn_of_a_call_refuses_it(run: Run) -> None:
    async def main() -> None:
        engine = engine_of()
        task = asyncio.create_task(engine.ainfer(rows()))
        asyncio.get_running_loop().call_soon(engine.close)  # before the turn's requests are queued
        with pytest.raises(paddleinfer.EngineClosed):
            await task
        assert_all_ended(engine)

    run(main())


@pytest.mark.parametrize("drain", [True, False])
@pytest.mark.parametrize("where", ["thread", "loop"])
def test_closing_under_load_gives_each_task_one_end(run: Run, where: str, drain: bool) -> None:
    async def main() -> None:
        engine = engine_of(instances=2)
        results = 0
        closers: list[threading.Thread] = []

        async def call() -> None:
            nonlocal results
            while True:
                try:
                    assert (await engine.ainfer(rows()))["y"].tolist() == [[2, 2, 2]]
                except paddleinfer.EngineClosed:
                    return
                results += 1
                if results == 200 and where == "thread":
                    closers.append(threading.Thread(target=engine.close, args=(drain,)))
                    closers[0].start()
                elif results == 200:
                    engine.close(drain)

        await asyncio.wait_for(asyncio.gather(*(call() for _ in range(32))), PATIENCE_S)
        for closer in closers:
            await asyncio.to_thread(closer.join)
        assert engine.stats()["results"] == results >= 200
        assert_all_ended(engine)

    run(main())


def test_close_gives_up_on_a_hung_run_and_its_tasks_hear_of_it(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        engine = engine_of(gate)
        running = asyncio.create_task(engine.ainfer(rows()))
        await turn_until(lambda: gate.batches)
        queued = asyncio.create_task(engine.ainfer(rows()))
        await turn_until(lambda: engine.stats()["queued_requests"] == 1)
        await asyncio.to_thread(engine.close, timeout=0.05)
        for task in (running, queued):
            with pytest.raises(paddleinfer.EngineClosed):
                await asyncio.wait_for(task, PATIENCE_S)
        gate.open()
        assert_all_ended(engine)

    run(main())


def test_an_engine_that_is_dropped_ends_its_tasks(run: Run) -> None:
    async def main() -> None:
        gate = Gate()
        engine = engine_of(gate)
        core = weakref.ref(engine._generation.core)
        running = asyncio.create_task(engine.ainfer(rows()))
        await turn_until(lambda: gate.batches)
        handle = engine.submit(rows())
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        del engine, running
        gc.collect()
        assert isinstance(await asyncio.to_thread(handle.exception, PATIENCE_S), paddleinfer.EngineClosed)
        gate.open()
        del handle
        await turn_until(lambda: gc.collect() is not None and core() is None)

    run(main())


def test_a_loop_that_closes_in_the_turn_of_a_call_gives_its_input_back(run: Run) -> None:
    with engine_of() as engine:
        x, kept = watched()
        loop = new_loop(run)
        task: Any = loop.create_task(engine.ainfer({"x": x}))
        loop.call_soon(loop.stop)  # on the stock loop before the turn's requests are queued
        loop.run_forever()
        loop.close()
        task._log_destroy_pending = False  # it stays unfinished on purpose
        del task, loop, x
        assert eventually(lambda: kept() is None)
        assert engine.infer(rows())
    assert_all_ended(engine)
