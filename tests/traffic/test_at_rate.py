"""Arrivals at a rate, whether or not earlier requests have been answered."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest

from paddleinfer import DeadlineExceeded, Engine, ModelError, QueueFull
from paddleinfer.traffic.at_rate import submit_at_rate

PATIENCE_S = 60.0


def ended(error: BaseException | None) -> Future[Any]:
    future: Future[Any] = Future()
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
    return future


def test_a_rate_that_nobody_can_send_at_ends_in_time_all_the_same() -> None:
    tally = submit_at_rate(1e12, 0.1, lambda number: ended(None))
    assert tally.sent == len(tally.ended_s) > 0
    assert tally.most_lag_ms > 50


def test_a_load_without_time_sends_one_request_all_the_same() -> None:
    numbers: list[int] = []

    def submit(number: int) -> Future[Any]:
        numbers.append(number)
        return ended(None)

    tally = submit_at_rate(1e12, 1e-9, submit)
    assert (numbers, tally.sent, len(tally.ended_s)) == ([0], 1, 1)


def test_refused_and_late_requests_are_counted_and_the_load_goes_on() -> None:
    def submit(number: int) -> Future[Any]:
        if number % 4 == 0:
            raise QueueFull("no room")
        return ended((None, QueueFull("no room"), DeadlineExceeded("too late"))[number % 4 - 1])

    tally = submit_at_rate(1e12, 0.02, submit)
    assert tally.refused >= 2 and tally.late >= 1
    assert tally.sent == tally.refused + tally.late + len(tally.ended_s)


def test_the_load_ends_with_its_last_result() -> None:
    with Engine.from_callable(dict, inputs={"x": ("float32", (-1, 1))}, outputs=["x"]) as engine:
        tally = submit_at_rate(500, 0.05, lambda number: engine.submit([[[float(number)]]]))
    assert tally.sent == len(tally.ended_s) == len(tally.latencies_ms) > 0
    assert min(tally.latencies_ms) > 0


def test_an_engine_s_failure_ends_the_load_and_comes_out() -> None:
    def fails(feeds: Any) -> Any:
        raise ValueError("no more")

    with (
        Engine.from_callable(fails, inputs={"x": ("float32", (-1, 1))}, outputs=["y"]) as engine,
        pytest.raises(ModelError, match="no more"),
    ):
        submit_at_rate(500, PATIENCE_S, lambda number: engine.submit([[[float(number)]]]))
