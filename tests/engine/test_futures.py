"""submit() returns a concurrent.futures.Future in every respect."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import gc
import logging
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from engine_helpers import (
    PATIENCE_S,
    double,
    engine_of,
    eventually,
    gated,
    late_while_it_runs,
    rows,
    run_threads,
)

import paddleinfer
from paddleinfer.engine.futures import InferFuture

DOUBLED = [[2.0, 2.0, 2.0]]


def test_a_future_goes_from_queued_to_running_to_done() -> None:
    with gated() as (engine, gate):
        queued = engine.submit(rows())
        assert isinstance(queued, cf.Future)
        assert (queued.running(), queued.done(), queued.cancelled()) == (False, False, False)
        gate.open()
        assert queued.result()["y"].tolist() == DOUBLED
        assert (queued.running(), queued.done(), queued.cancelled()) == (False, True, False)
        assert queued.exception() is None and not queued.cancel()
        assert queued.result()["y"] is queued.result(0)["y"]


def test_result_limits_the_wait_and_leaves_the_request_alone() -> None:
    with gated() as (engine, gate):
        future = engine.submit(rows())
        for timeout in (0, 1e-9, 0.01, -1, np.float64(0.001)):
            for wait in (future.result, future.exception):
                with pytest.raises(cf.TimeoutError) as caught:
                    wait(timeout)
                assert not isinstance(caught.value, paddleinfer.DeadlineExceeded)
        assert not future.done()
        gate.open()
        for timeout in (1e300, 2**70, PATIENCE_S, None):
            assert future.result(timeout)["y"].tolist() == DOUBLED


def test_submits_timeout_is_the_requests_deadline_while_it_is_queued() -> None:
    with gated() as (engine, gate):
        future = engine.submit(rows(value=5), timeout=0.02)
        unwatched = engine.submit(rows(value=5), timeout=0.02)
        assert isinstance(future.exception(), paddleinfer.DeadlineExceeded)
        assert future.done() and not future.cancelled() and not future.cancel()
        with pytest.raises(paddleinfer.DeadlineExceeded, match=r"0\.02 s"):
            future.result(0)
        assert eventually(unwatched.done)  # ended without anybody asking
        assert engine.stats()["queued_requests"] == 0
        gate.open()
        engine.close()
    assert gate.ran == [-1]


def test_submits_timeout_ends_a_running_request_too() -> None:
    with gated() as (_, gate):
        other = engine_of(gate)
        future, _ = late_while_it_runs(
            lambda timeout_s: other.submit(rows(value=7), timeout=timeout_s), gate, InferFuture.done
        )
        expired = other.stats()["requests"]
        ended = threading.Event()
        future.add_done_callback(lambda _: ended.set())
        assert ended.wait(PATIENCE_S)
        assert isinstance(future.exception(0), paddleinfer.DeadlineExceeded)
        assert other.stats()["expired"] == expired and other.stats()["running_executions"] == 1
        gate.open()
        assert other.infer(rows())["y"].tolist() == DOUBLED
        other.close()


# Cancelling


def test_a_queued_request_can_be_cancelled_and_never_runs() -> None:
    with gated() as (engine, gate):
        future = engine.submit(rows(value=5))
        called: list[cf.Future[Any]] = []
        future.add_done_callback(called.append)
        assert future.cancel() and future.cancelled() and future.done() and not future.running()
        assert future.cancel()  # as the standard library has it
        for ask in (future.result, future.exception):
            with pytest.raises(cf.CancelledError):
                ask()
        assert eventually(lambda: called == [future])
        gate.open()
    assert gate.ran == [-1]


def test_a_running_request_cannot_be_cancelled() -> None:
    with gated() as (_, gate), engine_of(gate) as other:
        future = other.submit(rows())
        gate.wait_entered()
        assert future.running() and not future.cancel() and not future.cancelled()
        gate.open()
        assert future.result()


def test_what_was_cancelled_never_ran_and_what_ran_was_not_cancelled() -> None:
    ran: set[float] = set()

    def notes(inputs: dict[str, np.ndarray]) -> Any:
        ran.add(float(inputs["x"][0, 0]))
        return double(inputs)

    with engine_of(notes, instances=2) as engine:

        def race(number: int) -> None:
            for turn in range(400):
                value = float(number * 1000 + turn)
                future = engine.submit(rows(value=value))
                cancelled = future.cancel()
                assert cancelled == future.cancelled()
                if not cancelled:
                    assert future.result()["y"][0, 0] == value * 2
                else:
                    never.add(value)

        never: set[float] = set()
        run_threads(4, race)
        assert not never & ran
        stats = engine.stats()
    assert stats["cancelled"] == len(never) and stats["results"] == 1600 - len(never)


# The standard library's tools


def test_wait_and_as_completed_see_every_kind_of_end() -> None:
    def fussy(inputs: dict[str, np.ndarray]) -> Any:
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        return gate(inputs)

    with gated() as (_, gate), engine_of(fussy) as engine:
        first = engine.submit(rows())
        failing, late = engine.submit(rows(value=-1)), engine.submit(rows(), timeout=0)
        cancelled, last = engine.submit(rows()), engine.submit(rows())
        assert cancelled.cancel()
        done, waiting = cf.wait([late, cancelled], PATIENCE_S)
        assert done == {late, cancelled} and not waiting
        done, waiting = cf.wait([first, last], 0)
        assert not done and waiting == {first, last}
        with pytest.raises(cf.TimeoutError):
            list(cf.as_completed([first], 0.01))
        gate.open()
        every = {first, failing, late, cancelled, last}
        assert set(cf.as_completed(every, PATIENCE_S)) == every
        done, _ = cf.wait(every, PATIENCE_S, cf.FIRST_EXCEPTION)
        assert failing in done and isinstance(failing.exception(), paddleinfer.ModelError)
        assert last.result() and isinstance(late.exception(), paddleinfer.DeadlineExceeded)


def test_asyncio_wraps_it() -> None:
    async def main() -> None:
        with gated() as (engine, gate):
            good, late = engine.submit(rows()), engine.submit(rows(), timeout=0)
            dropped = engine.submit(rows(value=5))
            wrapped = asyncio.wrap_future(dropped)
            wrapped.cancel()
            with pytest.raises(asyncio.CancelledError):
                await wrapped
            await asyncio.sleep(0)
            assert dropped.cancelled()
            with pytest.raises(paddleinfer.DeadlineExceeded):
                await asyncio.wrap_future(late)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(good)), 0.01)
            gate.open()
            assert (await asyncio.wrap_future(good))["y"].tolist() == DOUBLED
            many = await asyncio.gather(*(asyncio.wrap_future(engine.submit(rows())) for _ in range(100)))
            assert all(results["y"].tolist() == DOUBLED for results in many)

    asyncio.run(main())


def test_a_loop_that_is_gone_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def leave(engine: paddleinfer.Engine) -> list[Any]:
        return [asyncio.wrap_future(engine.submit(rows())) for _ in range(3)]

    with gated() as (engine, gate):
        left = asyncio.run(leave(engine))
        gate.open()
        assert engine.submit(rows()).result()["y"].tolist() == DOUBLED
        assert cf.wait([engine.submit(rows())], PATIENCE_S).done
        del left


# Callbacks


def test_callbacks_run_in_order_on_the_completion_thread_and_nowhere_else() -> None:
    where: list[tuple[int, str]] = []
    with gated() as (engine, gate):
        futures = [engine.submit(rows()) for _ in range(20)]
        for number, future in enumerate(futures):
            for part in (0, 1):
                future.add_done_callback(
                    lambda _, place=2 * number + part: where.append((place, threading.current_thread().name))
                )
        gate.open()
        assert cf.wait(futures, PATIENCE_S).done == set(futures)
        assert eventually(lambda: len(where) == 40)
    assert where == [(place, "paddleinfer-completions") for place in range(40)]


def test_a_callback_added_after_the_end_is_called() -> None:
    with engine_of() as engine:
        future = engine.submit(rows())
        future.result()
        called = threading.Event()
        future.add_done_callback(lambda done: called.set() if done is future else None)
        assert called.wait(PATIENCE_S)
        cf.wait([future])
        late: list[Any] = []
        future.add_done_callback(late.append)
        assert late == [future]
    after = []
    future.add_done_callback(after.append)
    assert after == [future]


@pytest.mark.parametrize("raised", [ValueError("mine"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_a_callback_that_raises_is_logged_and_harms_nobody(
    raised: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(_: Any) -> None:
        raise raised

    with caplog.at_level(logging.ERROR), gated() as (engine, gate):
        future, neighbour = engine.submit(rows()), engine.submit(rows())
        called = [threading.Event(), threading.Event()]
        future.add_done_callback(raises)
        future.add_done_callback(lambda _: called[0].set())
        neighbour.add_done_callback(lambda _: called[1].set())
        gate.open()
        assert all(event.wait(PATIENCE_S) for event in called)
        assert future.result() and neighbour.result()
    assert any(record.exc_info is not None and record.exc_info[1] is raised for record in caplog.records)


def test_a_future_that_its_caller_settled_harms_nobody() -> None:
    with gated() as (engine, gate):
        meddled = [engine.submit(rows()) for _ in range(3)]
        meddled[0].set_result({})
        meddled[1].set_exception(ValueError())
        meddled[2].set_running_or_notify_cancel()
        neighbour = engine.submit(rows())
        gate.open()
        assert cf.wait([neighbour], PATIENCE_S).done == {neighbour}
        assert neighbour.result()["y"].tolist() == DOUBLED


def test_callbacks_may_submit_infer_and_close() -> None:
    order: list[Any] = []
    finished = threading.Event()
    engine = engine_of()

    def first(future: cf.Future[Any]) -> None:
        order.append(engine.infer(future.result()["y"])["y"][0, 0])
        engine.submit(future.result()["y"] * 2).add_done_callback(second)

    def second(future: cf.Future[Any]) -> None:
        order.append(future.result()["y"][0, 0])
        engine.close()
        try:
            engine.submit(rows())
        except paddleinfer.EngineClosed:
            order.append("closed")
        finished.set()

    engine.submit(rows()).add_done_callback(first)
    assert finished.wait(PATIENCE_S)
    assert order == [4, 8, "closed"]


def test_a_callback_may_wait_for_the_future_of_another_request() -> None:
    with engine_of() as engine:
        seen: list[Any] = []
        ended = threading.Event()

        def waits(_: Any) -> None:
            seen.append(engine.submit(rows()).result(PATIENCE_S)["y"].tolist())
            with pytest.raises(paddleinfer.DeadlineExceeded):
                engine.submit(rows(), timeout=0).result()
            ended.set()

        engine.submit(rows()).add_done_callback(waits)
        assert ended.wait(PATIENCE_S)
        assert seen == [DOUBLED]


# Many, dropped, made by hand


def test_sixty_four_threads_submit_and_take_their_own_results() -> None:
    with engine_of(instances=2) as engine:

        def call(number: int) -> None:
            values = [float(number * 100 + turn) for turn in range(20)]
            futures = [engine.submit(rows(1 + turn % 3, value)) for turn, value in enumerate(values)]
            for future, value in zip(futures, values, strict=True):
                assert (future.result(PATIENCE_S)["y"] == value * 2).all()

        run_threads(64, call)
        assert engine.stats()["results"] == 64 * 20


def test_sixteen_threads_may_wait_for_the_same_future() -> None:
    with gated() as (engine, gate):
        future = engine.submit(rows())
        seen: list[Any] = []

        def wait(number: int) -> None:
            if number == 0:
                gate.open()
            seen.append(future.result(PATIENCE_S)["y"])

        run_threads(16, wait)
        assert all(array is seen[0] for array in seen)


def test_a_future_that_nobody_keeps_ends_all_the_same() -> None:
    with gated() as (engine, gate):
        called = threading.Event()
        future = engine.submit(rows())
        future.add_done_callback(lambda _: called.set())
        kept = weakref.ref(future)
        del future
        for _ in range(50):
            engine.submit(rows())
        gc.collect()
        assert engine.stats()["queued_requests"] == 51
        gate.open()
        assert called.wait(PATIENCE_S)
        assert eventually(lambda: kept() is None)
        assert eventually(lambda: engine.stats()["results"] == 52)


def test_futures_and_results_go_when_their_holder_lets_go() -> None:
    with engine_of() as engine:
        future = engine.submit(rows())
        future.result()
        kept = [weakref.ref(future), weakref.ref(future.result()["y"])]
        del future
        assert eventually(lambda: not any(ref() for ref in kept))


def test_a_future_made_by_hand_says_where_futures_come_from() -> None:
    future = InferFuture()
    assert repr(future)
    for use in (
        future.result,
        future.exception,
        future.done,
        future.running,
        future.cancelled,
        future.cancel,
    ):
        with pytest.raises(RuntimeError, match=r"Engine\.submit"):
            use()


def test_a_refused_request_leaves_no_future_behind() -> None:
    with gated(max_queue_rows=1) as (engine, _):
        engine.submit(rows())
        for wrong, error in (
            (rows(2), paddleinfer.QueueFull),
            (rows(), paddleinfer.QueueFull),
            ({}, paddleinfer.InvalidInput),
        ):
            with pytest.raises(error):
                engine.submit(wrong)
        assert engine.stats()["requests"] == 2
