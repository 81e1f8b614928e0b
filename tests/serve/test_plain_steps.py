"""Plain functions of requests from a loop: on the threads of the pool, and the engine asked between them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Gate, engine_of, eventually, merging, rows

from paddleinfer import DeadlineExceeded, EngineClosed, InvalidInput, ServiceError
from paddleinfer.serve import Request, Service, ServiceLimits
from paddleinfer.serve.loops import LoopJob, Mail
from paddleinfer.serve.plain_steps import UsualTime


def prepared(request: Request) -> Any:
    return {"x": rows(value=request.value)}


def number(results: Any, _: Request) -> Any:
    return float(results["y"][0, 0])


async def asked(service: Service, count: int) -> list[Any]:
    return await asyncio.gather(*(service.acall(value) for value in range(count)), return_exceptions=True)


def test_no_function_runs_on_the_threads_of_the_loop_or_the_engine() -> None:
    seen = set[threading.Thread]()

    def preprocess(request: Request) -> Any:
        seen.add(threading.current_thread())
        return prepared(request)

    def postprocess(results: Any, request: Request) -> Any:
        seen.add(threading.current_thread())
        return number(results, request)

    with (
        engine_of() as engine,
        Service(engine, name="own", preprocess=preprocess, postprocess=postprocess) as service,
    ):
        for _ in range(5):
            assert asyncio.run(asked(service, 40)) == [2.0 * value for value in range(40)]
    assert {thread.name for thread in seen} == {"paddleinfer-own"}


def test_requests_of_one_turn_of_the_loop_share_a_run() -> None:
    with merging() as (engine, gate), Service(engine, preprocess=prepared, postprocess=number) as service:

        async def ask() -> list[Any]:
            answers = asyncio.ensure_future(asked(service, 6))
            while engine.stats()["queued_requests"] < 6:
                await asyncio.sleep(0.001)
            gate.open()
            return await answers

        assert asyncio.run(ask()) == [2.0 * value for value in range(6)]
    assert gate.sizes == [6]


def test_a_slow_function_keeps_no_other_request_from_its_turn() -> None:
    opened, others = threading.Event(), 50

    def preprocess(request: Request) -> Any:
        if request.value < 0:
            assert opened.wait(PATIENCE_S)
        return prepared(request)

    limits = ServiceLimits(running=4)
    with (
        engine_of() as engine,
        Service(engine, preprocess=preprocess, postprocess=number, limits=limits) as service,
    ):

        async def ask() -> list[Any]:
            await asked(service, 64)  # from here on it counts as short
            slow = [asyncio.ensure_future(service.acall(-value)) for value in (1, 2, 3)]
            answers = await asked(service, others)
            assert not any(task.done() for task in slow)
            opened.set()
            return [*answers, *await asyncio.gather(*slow)]

        assert asyncio.run(ask()) == [*(2.0 * value for value in range(others)), -2.0, -4.0, -6.0]


def test_a_cancelled_request_is_given_up_at_the_engine() -> None:
    with merging() as (engine, gate), Service(engine, preprocess=prepared, postprocess=number) as service:

        async def queued(count: int) -> None:
            while engine.stats()["queued_requests"] != count:
                await asyncio.sleep(0.001)

        async def ask() -> None:
            tasks = [asyncio.ensure_future(service.acall(value)) for value in range(4)]
            await queued(4)
            for task in tasks[1:]:
                task.cancel()
            await asyncio.wait(tasks[1:])
            await queued(1)
            gate.open()
            assert await tasks[0] == 0.0

        asyncio.run(ask())
        assert service.stats()["outcomes"]["cancelled"] == 3
        assert service.stats()["outcomes"]["result"] == 1
        assert asyncio.run(asked(service, 2)) == [0.0, 2.0]


def test_a_deadline_ends_each_request_wherever_it_is() -> None:
    gate = Gate()
    with engine_of(gate) as engine, Service(engine, preprocess=prepared, postprocess=number) as service:

        async def ask() -> list[Any]:
            calls = [service.acall(value, timeout=0.1) for value in range(4)]
            return await asyncio.gather(*calls, return_exceptions=True)

        answers = asyncio.run(ask())
        assert all(isinstance(answer, DeadlineExceeded) for answer in answers), answers
        gate.open()
        assert service.calls.under_way == 0


def test_what_the_engine_refuses_is_blamed_on_preprocess_and_others_get_their_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def preprocess(request: Request) -> Any:
        return {"z": 1} if request.value == 3 else prepared(request)

    with engine_of() as engine, Service(engine, preprocess=preprocess, postprocess=number) as service:
        with caplog.at_level(logging.ERROR, "paddleinfer.serve"):
            answers = asyncio.run(asked(service, 6))
        wrong = answers.pop(3)
        assert isinstance(wrong, ServiceError) and "failed in preprocess" in str(wrong)
        assert isinstance(wrong.__cause__, InvalidInput)
        assert len(caplog.records) == 1
        assert answers == [2.0 * value for value in (0, 1, 2, 4, 5)]


def test_a_closed_engine_ends_all_requests_and_loses_none() -> None:
    with engine_of() as engine:
        service = Service(engine, preprocess=prepared, postprocess=number)
    with service:
        answers = asyncio.run(asked(service, 6))
    assert all(isinstance(answer, EngineClosed) for answer in answers), answers


def test_conversions_beside_the_loop_come_before_the_run() -> None:
    many = np.ones((1 << 16, 3), np.float64)  # too many to convert on the loop
    with (
        engine_of(max_batch_size=1 << 16, max_queue_rows=1 << 18) as engine,
        Service(engine, preprocess=lambda _: {"x": many}, postprocess=number) as service,
    ):
        assert asyncio.run(asked(service, 3)) == [2.0, 2.0, 2.0]


def test_the_engine_is_asked_in_the_context_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    of_caller: contextvars.ContextVar[int] = contextvars.ContextVar("of_caller", default=-1)
    seen = []
    with engine_of() as engine, Service(engine, preprocess=prepared, postprocess=number) as service:
        ask = service.calls._steps.ask

        async def noted(inputs: Any) -> Any:
            before = of_caller.get()
            given = await ask(inputs)
            seen.append((before, of_caller.get()))
            return given

        monkeypatch.setattr(service.calls._steps, "ask", noted)

        async def one(value: int) -> None:
            of_caller.set(value)
            await service.acall(value)

        async def all_of_them() -> None:
            await asyncio.gather(*map(one, range(8)))

        asyncio.run(all_of_them())
    assert sorted(seen)[-7:] == [(value, value) for value in range(1, 8)]


def test_close_without_drain_ends_requests_that_are_about_to_start() -> None:
    began, opened = threading.Event(), threading.Event()

    def preprocess(request: Request) -> Any:
        began.set()
        assert opened.wait(PATIENCE_S)
        return prepared(request)

    answers: list[Any] = []
    with engine_of() as engine:
        limits = ServiceLimits(running=1)
        service = Service(engine, preprocess=preprocess, postprocess=number, limits=limits)
        thread = threading.Thread(target=lambda: answers.extend(asyncio.run(asked(service, 5))))
        thread.start()
        assert began.wait(PATIENCE_S)
        assert eventually(lambda: len(service.calls._pool._jobs) == 4)
        service.close(drain=False, timeout=0)
        opened.set()
        thread.join(PATIENCE_S)
    assert len(answers) == 5
    assert sum(isinstance(answer, EngineClosed) for answer in answers) >= 4, answers


def test_a_function_counts_as_short_by_the_mean_of_its_last_times() -> None:
    usual = UsualTime(short_ns=100)
    for _ in range(31):
        usual.note(50)
        assert not usual.is_short  # not seen often enough
    usual.note(1000)  # one wait for the interpreter is no reason
    assert usual.is_short
    usual.note(3200)  # as much as all of the next ones should take
    assert not usual.is_short
    for _ in range(32):
        usual.note(99)
    assert usual.is_short


def test_a_thread_has_given_its_turn_back_when_the_loop_may_post_the_next_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    had_turns, send = [], Mail.send

    def noted(mail: Mail, loop: Any, job: LoopJob, result: Any, error: Exception | None) -> None:
        had_turns.append(job._run._turn_of is not None)
        send(mail, loop, job, result, error)

    monkeypatch.setattr(Mail, "send", noted)
    with engine_of() as engine, Service(engine, preprocess=prepared, postprocess=number) as service:
        asyncio.run(asked(service, 10))
        assert eventually(lambda: service.calls._pool._running == 0)
    assert had_turns == [False] * 19  # the first, which was alone, is one function
