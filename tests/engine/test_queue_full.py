"""A full queue refuses at once, or has its callers wait for room: in order, with deadlines, until close."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures as cf
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from engine_helpers import (
    PATIENCE_S,
    SOON_S,
    Gate,
    Steady,
    engine_of,
    eventually,
    gated,
    merging,
    rows,
    run_threads,
)
from loop_helpers import Run, on_both_loops, turn_until

import paddleinfer

DOUBLED = [[2.0, 2.0, 2.0]]
LIMITS: list[dict[str, Any]] = [{"max_queue_rows": 4}, {"max_queue_bytes": 48}]


def waiting(engine: paddleinfer.Engine) -> int:
    return int(engine.stats()["requests_waiting_for_room"])


@contextmanager
def full(**options: Any) -> Iterator[tuple[paddleinfer.Engine, Gate]]:
    """An engine that is busy, with four rows queued: no room for one more."""
    options = {"on_full": "wait", "max_queue_rows": 4, "batchable": True, **options}
    with gated(**options) as (engine, gate):
        for _ in range(4):
            engine.submit(rows(value=0))
        yield engine, gate


# Refused


@pytest.mark.parametrize("limits", LIMITS)
def test_a_full_queue_refuses_every_kind_of_call_at_once(limits: dict[str, Any]) -> None:
    with gated(**limits) as (engine, gate):
        held = [engine.submit(rows()) for _ in range(4)]
        calls = [
            lambda: engine.infer(rows()),
            lambda: engine.submit(rows()),
            lambda: asyncio.run(engine.ainfer(rows())),
        ]
        for call in calls:
            with pytest.raises(paddleinfer.QueueFull, match="4 rows and 48 bytes waiting") as caught:
                call()
            assert caught.value.retry_after_s > 0
        assert engine.stats()["refused"] == 3 and waiting(engine) == 0
        gate.open()
        assert all(future.result(PATIENCE_S) for future in held)


def test_the_time_to_come_back_grows_with_what_waits() -> None:
    hints = []
    with merging(max_batch_size=1, max_queue_rows=40) as (engine, gate):
        held = []
        for waiting in (4, 40):
            held += [engine.submit(rows()) for _ in range(waiting - len(held))]
            with pytest.raises(paddleinfer.QueueFull) as caught:
                engine.submit(rows(40))
            hints.append(caught.value.retry_after_s)
        gate.open()
        assert all(future.result(PATIENCE_S) for future in held)
    assert Steady.RUN_S * 4 <= hints[0] < hints[1] and hints[1] >= Steady.RUN_S * 40


def test_five_hundred_callers_of_a_slow_model_are_served_or_refused_and_none_waits_past_its_deadline() -> (
    None
):
    """Real clock. Runs go on until the queue has been full, so that this is no question of speed."""
    model = Steady()
    timeout_s = 0.5
    counted = collections.Counter[str]()
    queued = []
    longest = []
    with engine_of(model, instances=2, max_queue_rows=64, batchable=True, max_batch_size=4) as engine:

        def call(number: int) -> None:
            for _ in range(4):
                begin = time.monotonic()
                try:
                    engine.infer(rows(value=number), timeout=timeout_s)
                    end = "results"
                except paddleinfer.QueueFull as error:
                    assert error.retry_after_s > 0
                    end = "refused"
                    model.open()
                except paddleinfer.DeadlineExceeded as error:
                    end = "shed" if error.shed else "expired"
                longest.append(time.monotonic() - begin)
                queued.append(engine.stats()["queued_rows"])
                counted[end] += 1  # under the GIL, one step

        run_threads(500, call)
        assert engine.infer(rows(), timeout=PATIENCE_S)["y"].tolist() == DOUBLED
        counted["results"] += 1
        stats = engine.stats()
    assert max(queued) <= 64 and max(longest) < timeout_s + SOON_S
    assert counted.total() == 2001 and all(counted[end] == stats[end] for end in counted)
    assert counted["refused"] > 0


# Waiting for room


def test_infer_waits_for_room() -> None:
    with full() as (engine, gate), cf.ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(engine.infer, rows(value=number)) for number in range(3)]
        assert eventually(lambda: waiting(engine) == 3)
        assert engine.stats()["queued_rows"] == 4 and not any(call.done() for call in calls)
        gate.open()
        assert [call.result(PATIENCE_S)["y"][0, 0] for call in calls] == [0, 2, 4]
        assert engine.stats()["refused"] == 0


def test_submit_blocks_until_there_is_room() -> None:
    with full() as (engine, gate), cf.ThreadPoolExecutor(1) as threads:
        call = threads.submit(engine.submit, rows())
        assert eventually(lambda: waiting(engine) == 1)
        assert not call.done()
        gate.let_one_through()  # a batch goes, and there is room
        future = call.result(PATIENCE_S)
        assert not future.done() and waiting(engine) == 0
        gate.open()
        assert future.result(PATIENCE_S)["y"].tolist() == DOUBLED


@on_both_loops
def test_ainfer_waits_for_room_and_the_loop_goes_on(run: Run) -> None:
    async def main() -> None:
        with full() as (engine, gate):
            tasks = [asyncio.create_task(engine.ainfer(rows(value=number))) for number in range(3)]
            await turn_until(lambda: waiting(engine) == 3)
            gate.open()
            assert [results["y"][0, 0] for results in await asyncio.gather(*tasks)] == [0, 2, 4]

    run(main())


def test_who_waits_first_comes_in_first() -> None:
    with full() as (engine, gate), cf.ThreadPoolExecutor(8) as threads:
        calls = []
        for number in range(1, 9):
            calls.append(threads.submit(engine.infer, rows(1 + number % 3, number)))
            assert eventually(lambda number=number: waiting(engine) == number)
        gate.open()
        assert all(call.result(PATIENCE_S) for call in calls)
        order = [value for batch in gate.batches for value in batch if value > 0]
        assert order == sorted(order)


def test_a_small_request_does_not_overtake_a_large_one_at_the_door() -> None:
    with full() as (engine, gate), cf.ThreadPoolExecutor(2) as threads:
        held = engine.stats()["queued_rows"]
        large = threads.submit(engine.infer, rows(4, 5))
        assert eventually(lambda: waiting(engine) == 1)
        small = threads.submit(engine.infer, rows(1, 6))
        assert eventually(lambda: waiting(engine) == 2)
        gate.let_one_through()
        gate.wait_entered()  # some of four have gone: room for the small one only
        assert engine.stats()["queued_rows"] < held and waiting(engine) == 2
        gate.open()
        assert large.result(PATIENCE_S) and small.result(PATIENCE_S)
        assert gate.ran.index(5) < gate.ran.index(6)


def test_cancelling_what_is_queued_makes_room_at_once() -> None:
    with gated(on_full="wait", max_queue_rows=1) as (engine, gate), cf.ThreadPoolExecutor(1) as threads:
        queued = engine.submit(rows())
        call = threads.submit(engine.submit, rows(value=4))
        assert eventually(lambda: waiting(engine) == 1)
        assert queued.cancel()
        future = call.result(PATIENCE_S)
        gate.open()
        assert future.result(PATIENCE_S)["y"][0, 0] == 8


def test_a_deadline_that_passes_in_the_queue_makes_room() -> None:
    """Real clock."""
    with gated(on_full="wait", max_queue_rows=1) as (engine, gate), cf.ThreadPoolExecutor(1) as threads:
        late = engine.submit(rows(), timeout=0.2)
        call = threads.submit(engine.submit, rows(value=4))
        assert isinstance(late.exception(PATIENCE_S), paddleinfer.DeadlineExceeded)
        future = call.result(PATIENCE_S)
        gate.open()
        assert future.result(PATIENCE_S)["y"][0, 0] == 8


def test_a_request_of_more_bytes_than_may_wait_never_waits() -> None:
    with full(max_queue_bytes=48) as (engine, _):
        for call in (engine.infer, engine.submit, lambda x: asyncio.run(engine.ainfer(x))):
            with pytest.raises(paddleinfer.InvalidInput, match="60 bytes of input, and max_queue_bytes=48"):
                call(rows(5))
        assert waiting(engine) == 0


def test_a_request_of_more_rows_than_may_wait_waits_for_an_empty_queue() -> None:
    with full() as (engine, gate), cf.ThreadPoolExecutor(2) as threads:
        large = threads.submit(engine.infer, rows(9, value=2))
        assert eventually(lambda: waiting(engine) == 1)
        after = threads.submit(engine.infer, rows(1, value=3))
        assert eventually(lambda: waiting(engine) == 2)
        gate.open()
        assert large.result(PATIENCE_S)["y"].tolist() == (rows(9, value=2) * 2).tolist()
        assert after.result(PATIENCE_S)["y"][0, 0] == 6


# Ends at the door. Real clock: deadlines are what is tested, with room for a slow machine.


def test_deadlines_hold_at_the_door() -> None:
    with full() as (engine, gate):
        begin = time.monotonic()
        calls = [
            lambda: engine.infer(rows(value=9), timeout=0.03),
            lambda: engine.submit(rows(value=9), timeout=0.03).result(),
            lambda: asyncio.run(engine.ainfer(rows(value=9), timeout=0.03)),
            lambda: next(engine.infer_many([rows(value=9)], timeout=0.03)),
        ]
        for call in calls:
            with pytest.raises(paddleinfer.DeadlineExceeded, match=r"0\.03 s"):
                call()
        assert time.monotonic() - begin < SOON_S
        assert waiting(engine) == 0 and engine.stats()["expired"] == len(calls)
        gate.open()
        engine.close()
        assert 9 not in gate.ran


def test_a_task_that_is_cancelled_at_the_door_lets_those_behind_it_in() -> None:
    async def main() -> None:
        with gated(on_full="wait", max_queue_rows=4, batchable=True) as (engine, gate):
            engine.submit(rows(3))
            large = asyncio.create_task(engine.ainfer(rows(4, 9)))
            await turn_until(lambda: waiting(engine) == 1)
            small = asyncio.create_task(engine.ainfer(rows(1, 5)))
            await turn_until(lambda: waiting(engine) == 2)
            large.cancel()
            with pytest.raises(asyncio.CancelledError):
                await large
            assert waiting(engine) == 0 and engine.stats()["queued_rows"] == 4
            gate.open()
            assert (await small)["y"][0, 0] == 10
            engine.close()
            assert 9 not in gate.ran and engine.stats()["cancelled"] == 1

    asyncio.run(main())


@pytest.mark.parametrize("drain", [True, False])
def test_close_ends_who_waits_for_room_or_serves_them_first(drain: bool) -> None:
    async def ask(engine: paddleinfer.Engine) -> Any:
        return await engine.ainfer(rows())

    with full() as (engine, gate), cf.ThreadPoolExecutor(8) as threads:
        calls: list[cf.Future[Any]] = [threads.submit(engine.infer, rows()) for _ in range(2)]
        submits = [threads.submit(engine.submit, rows()) for _ in range(2)]
        calls += [threads.submit(asyncio.run, ask(engine)) for _ in range(2)]
        assert eventually(lambda: waiting(engine) == 6)
        closer = threads.submit(engine.close, drain)
        if drain:
            assert eventually(lambda: engine.closed)
            gate.open()
            assert all(call.result(PATIENCE_S)["y"].tolist() == DOUBLED for call in calls)
            assert all(call.result(PATIENCE_S).result(PATIENCE_S) for call in submits)
        else:
            for call in calls:
                with pytest.raises(paddleinfer.EngineClosed):
                    call.result(PATIENCE_S)
            for call in submits:
                assert isinstance(call.result(PATIENCE_S).exception(PATIENCE_S), paddleinfer.EngineClosed)
            gate.open()
        closer.result(PATIENCE_S)
        stats = engine.stats()
        assert stats["closed"] == (0 if drain else 10) and stats["requests_waiting_for_room"] == 0


def test_close_gives_up_on_a_hung_run_and_on_who_waits_for_room() -> None:
    with full() as (engine, _), cf.ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(engine.infer, rows()) for _ in range(2)]
        assert eventually(lambda: waiting(engine) == 2)
        engine.close(timeout=0.05)
        for call in calls:
            with pytest.raises(paddleinfer.EngineClosed):
                call.result(PATIENCE_S)


def test_all_of_many_callers_are_served_though_few_have_room() -> None:
    with engine_of(instances=2, on_full="wait", max_queue_rows=8, batchable=True) as engine:

        def call(number: int) -> None:
            for turn in range(20):
                x = rows(1 + (number + turn) % 8, number)
                np.testing.assert_array_equal(engine.infer(x)["y"], x * 2)

        async def main(number: int) -> None:
            for _ in range(5):
                given = await asyncio.gather(*(engine.ainfer(rows(value=number)) for _ in range(20)))
                assert all((results["y"] == 2 * number).all() for results in given)

        run_threads(24, lambda number: asyncio.run(main(number)) if number % 6 == 0 else call(number))
        stats = engine.stats()
    assert stats["results"] == stats["requests"] == 20 * 20 + 4 * 100 and stats["refused"] == 0
