"""A closed loop of callers, from threads and from tasks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from paddleinfer import DeadlineExceeded, Engine, ModelError, QueueFull
from paddleinfer.traffic.callers import Callers, call_from_tasks, call_from_threads
from paddleinfer.traffic.tally import Tally

PATIENCE_S = 60.0
NO_TIME_S = 1e-9


def nothing(number: int) -> None:
    pass


def drive(kind: str, callers: Callers, ask: Callable[[int], object] = nothing, **hooks: Any) -> Tally:
    """The load from one kind of callers; a task lets others go on before it has its answer."""
    if kind == "threads":
        return call_from_threads(callers, ask, **hooks)

    async def awaited(number: int) -> object:
        await asyncio.sleep(0)
        return ask(number)

    first = hooks.pop("first", lambda: None)

    async def awaited_first() -> object:
        return first()

    return call_from_tasks(callers, awaited, first=awaited_first, **hooks)


KINDS = pytest.mark.parametrize("kind", ["threads", "tasks"])


@KINDS
@pytest.mark.parametrize("count", [1, 8])
def test_a_load_without_time_makes_the_fewest_requests_and_numbers_them(kind: str, count: int) -> None:
    numbers: list[int] = []
    tally = drive(kind, Callers(count, NO_TIME_S, fewest=20), numbers.append)
    assert sorted(numbers) == list(range(20))
    assert tally.sent == len(tally.latencies_ms) == len(tally.ended_s) == 20
    assert min(tally.latencies_ms) > 0 and 0 < max(tally.ended_s) == tally.seconds


@KINDS
def test_callers_ask_until_the_time_is_over(kind: str) -> None:
    began = time.perf_counter()
    tally = drive(kind, Callers(2, 0.02, fewest=1))
    assert time.perf_counter() - began >= 0.02
    assert tally.sent == len(tally.ended_s) >= 1


@KINDS
def test_the_clock_starts_when_every_caller_has_done_what_comes_first(kind: str) -> None:
    happened: list[str] = []
    drive(
        kind,
        Callers(3, NO_TIME_S, fewest=2),
        lambda number: happened.append("asked"),
        first=lambda: happened.append("first"),
        begin=lambda: happened.append("begun"),
    )
    assert happened == ["first"] * 3 + ["begun"] + ["asked"] * 2


@KINDS
def test_refused_and_late_requests_are_counted_and_the_callers_go_on(kind: str) -> None:
    def ask(number: int) -> None:
        if number % 3 == 0:
            raise QueueFull("no room", retry_after_s=NO_TIME_S)
        if number % 3 == 1:
            raise DeadlineExceeded("too late")

    tally = drive(kind, Callers(2, NO_TIME_S, fewest=9), ask)
    assert (tally.sent, tally.refused, tally.late, len(tally.ended_s)) == (9, 3, 3, 3)


@KINDS
@pytest.mark.parametrize("at", ["first", "ask"])
def test_what_one_caller_runs_into_ends_the_load_and_comes_out(kind: str, at: str) -> None:
    calls: list[int] = []

    def fails(number: int = 0) -> None:
        calls.append(number)
        if len(calls) >= 3:
            raise ValueError("no more")

    before = threading.active_count()
    with pytest.raises(ValueError, match="no more"):
        drive(kind, Callers(4, PATIENCE_S, fewest=1), **{at: fails})
    assert threading.active_count() == before


@KINDS
def test_who_watches_is_told_of_the_seconds_and_the_answers(kind: str) -> None:
    told: list[tuple[float, int]] = []
    watched = threading.Event()

    def tick(seconds: float, answers: int) -> None:
        told.append((seconds, answers))
        watched.set()

    def ask(number: int) -> None:
        if watched.is_set():
            raise ValueError("seen")

    with pytest.raises(ValueError, match="seen"):
        drive(kind, Callers(1, PATIENCE_S, fewest=1), ask, tick=tick)
    seconds, answers = told[0]
    assert 0 < seconds < PATIENCE_S and answers > 0


def test_an_engine_s_failure_ends_the_load_and_comes_out() -> None:
    def fails(feeds: Any) -> Any:
        raise ValueError("no more")

    with (
        Engine.from_callable(fails, inputs={"x": ("float32", (-1, 1))}, outputs=["y"]) as engine,
        pytest.raises(ModelError, match="no more"),
    ):
        call_from_threads(Callers(2, PATIENCE_S, fewest=2), lambda number: engine.infer([[[float(number)]]]))
