"""Submits requests when they are due, whether or not earlier ones have been answered.

They are independent ones at a rate (Poisson), or come at given times.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np

from paddleinfer.errors import DeadlineExceeded, QueueFull
from paddleinfer.traffic.tally import TICK_S, Tally, Tick, no_tick

__all__ = ["submit_at_rate", "submit_at_times"]

_SEED = 1


def submit_at_rate(
    rate_per_s: float, seconds: float, submit: Callable[[int], Future[Any]], *, tick: Tick = no_tick
) -> Tally:
    """Drives the load from this thread; it ends when every request has ended.

    Parameters
    ----------
    rate_per_s
        Requests a second.
    seconds
        How long requests come; at least one comes.
    submit
        It makes one request; the number counts them from 0. QueueFull and DeadlineExceeded of a request are
        counted; any other error ends the load and is raised.
    tick
        It is told how far the load is.
    """

    def offsets_s() -> Iterator[float]:
        random = np.random.default_rng(_SEED)
        offset_s = 0.0
        while (offset_s := offset_s + random.exponential(1 / rate_per_s)) < seconds:
            yield offset_s

    return submit_at_times(offsets_s(), seconds, submit, tick=tick)


def submit_at_times(
    offsets_s: Iterable[float], seconds: float, submit: Callable[[int], Future[Any]], *, tick: Tick = no_tick
) -> Tally:
    """Drives the load from this thread; it ends when every request has ended.

    Parameters
    ----------
    offsets_s
        When requests are due, in seconds from the start of the load; never falling.
    seconds, submit, tick
        As for ``submit_at_rate``; nothing is sent after so many seconds.
    """
    tally = Tally()
    changed = threading.Condition()
    failures: list[BaseException] = []
    under_way = 0

    def ended(future: Future[Any], due_s: float) -> None:
        nonlocal under_way
        now_s = time.perf_counter()
        error = future.exception()
        with changed:
            under_way -= 1
            if error is None:
                tally.note_result(due_s, now_s)
            elif isinstance(error, DeadlineExceeded):
                tally.late += 1
            elif isinstance(error, QueueFull):
                tally.refused += 1
            else:
                failures.append(error)
            changed.notify_all()

    end_s = tally.began_s + seconds
    for offset_s in offsets_s:
        if failures:
            break
        due_s = tally.began_s + offset_s
        _sleep_until(due_s, tally, tick)
        now_s = time.perf_counter()
        tally.most_lag_ms = max(tally.most_lag_ms, (now_s - due_s) * 1e3)
        if now_s >= end_s and tally.sent > 0:  # no thread could send as fast as is asked for
            break
        tally.sent += 1
        try:
            future = submit(tally.sent - 1)
        except QueueFull:
            with changed:
                tally.refused += 1
            continue
        with changed:
            under_way += 1
        future.add_done_callback(functools.partial(ended, due_s=due_s))
    with changed:
        while under_way and not failures:
            changed.wait(TICK_S)
    if failures:
        raise failures[0]
    return tally


def _sleep_until(due_s: float, tally: Tally, tick: Tick) -> None:
    while (left_s := due_s - time.perf_counter()) > 0:
        time.sleep(min(left_s, TICK_S))
        tick(time.perf_counter() - tally.began_s, len(tally.ended_s))
