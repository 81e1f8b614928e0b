"""Runs closed-loop callers: each sends its own row again as soon as it has the answer, in a thread or a task.

A caller's latency is the time from one answer to its next: nothing else happens in between. Unlike those of
``paddleinfer.traffic`` the callers stay from window to window, because a predictor with oneDNN is slow on
every new thread, and a request counts with the part of its time that lies in the window.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from benchmarks import harness

Feeds = Mapping[str, "np.ndarray[Any, Any]"]
Results = Mapping[str, "np.ndarray[Any, Any]"]
Call = Callable[[Feeds], Results]
AsyncCall = Callable[[Feeds], Coroutine[Any, Any, Results]]

# The share of a window between the last caller's first answer and its begin, until batches have settled.
RAMP = 0.2
# One answer in this many is compared; comparing all would be most of the work.
KEPT_EVERY = 16


@dataclass(frozen=True)
class Row:
    """One caller's row, and the single-row answer to it."""

    feeds: Feeds
    expected: Sequence[Any]


@dataclass(frozen=True)
class Load:
    """The results of one variant's callers within one window."""

    requests_per_s: float
    p50_us: float
    p99_us: float
    compared: int
    different: int


class Variant(Protocol):
    """Something that callers can use."""

    def load(self, callers: int, seconds: float) -> Load:
        """Runs this many callers for a window of this many seconds."""


class Window:
    """The time when requests count, in nanoseconds of the clock, from when every caller has been served."""

    def __init__(self, callers: int, seconds: float) -> None:
        self._lock = threading.Lock()
        self._unserved = callers
        self._seconds = seconds
        self.begin = self.end = sys.maxsize

    def served(self, now: int) -> None:
        """Notes a caller's first answer; the last of them sets the window."""
        with self._lock:
            self._unserved -= 1
            if not self._unserved:
                self.begin = now + int(RAMP * self._seconds * 1e9)
                self.end = self.begin + int(self._seconds * 1e9)


@dataclass(frozen=True)
class Notes:
    """One caller's notes: when each answer came, and some of the answers."""

    times: list[int]
    kept: list[Results]


def keep_calling(window: Window, call: Callable[[], Results]) -> Notes:
    """Runs one caller in a thread."""
    clock = time.perf_counter_ns
    times, kept = [clock()], [call()]
    times.append(clock())
    window.served(times[-1])
    while times[-1] < window.end:
        answer = call()
        times.append(clock())
        if len(times) % KEPT_EVERY == 0:
            kept.append(answer)
    return Notes(times, [*kept, answer])


async def keep_awaiting(window: Window, call: Callable[[], Coroutine[Any, Any, Results]]) -> Notes:
    """Runs one caller in a task."""
    clock = time.perf_counter_ns
    times, kept = [clock()], [await call()]
    times.append(clock())
    window.served(times[-1])
    while times[-1] < window.end:
        answer = await call()
        times.append(clock())
        if len(times) % KEPT_EVERY == 0:
            kept.append(answer)
    return Notes(times, [*kept, answer])


def times_of(window: Window, notes: Sequence[Notes]) -> tuple[float, np.ndarray[Any, Any]]:
    """Returns requests per second, and the nanoseconds of each that touches the window.

    A request that lies partly in the window counts with that part of its time: answers come in batches, and
    whole ones would make the rate jump by a batch.
    """
    begins = np.concatenate([caller.times[:-1] for caller in notes])
    ends = np.concatenate([caller.times[1:] for caller in notes])
    taken = ends - begins
    inside = np.minimum(ends, window.end) - np.maximum(begins, window.begin)
    count = (inside.clip(min=0) / taken).sum()
    return float(count) / (window.end - window.begin) * 1e9, taken[inside > 0]


def summed_up(window: Window, rows: Sequence[Row], notes: Sequence[Notes]) -> Load:
    """Sums up what all callers got, and compares the answers they kept."""
    rate, taken = times_of(window, notes)
    p50, p99 = np.percentile(taken, [50, 99]) / 1e3
    answers = [
        all(harness.equal(*pair) for pair in zip(answer.values(), row.expected, strict=True))
        for row, caller in zip(rows, notes, strict=False)
        for answer in caller.kept
    ]
    return Load(rate, float(p50), float(p99), len(answers), answers.count(False))


class Threads:
    """One thread for each caller. They stay: a predictor with oneDNN is slow on every new thread."""

    def __init__(
        self,
        calls: Sequence[Call],
        rows: Sequence[Row],
        during: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._rows = rows
        self._during = during
        asking = [functools.partial(call, row.feeds) for call, row in zip(calls, rows, strict=False)]
        self._callers = harness.Callers(asking, warm_up=0)

    def load(self, callers: int, seconds: float) -> Load:
        """Has the first so many of them call until the window ends."""
        with self._during():
            window = Window(callers, seconds)
            notes = self._callers.each(functools.partial(keep_calling, window), callers)
        return summed_up(window, self._rows, notes)


class Tasks:
    """One task for each caller, on an event loop of its own in a thread of its own."""

    def __init__(
        self,
        call: AsyncCall,
        rows: Sequence[Row],
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self._call = call
        self._rows = rows
        self._thread = ThreadPoolExecutor(1)
        self._loop = new_loop()

    def load(self, callers: int, seconds: float) -> Load:
        """Has so many tasks await until the window ends; between windows the loop stands still."""
        window = Window(callers, seconds)
        asking = self._all(window, self._rows[:callers])
        notes = self._thread.submit(self._loop.run_until_complete, asking).result()
        return summed_up(window, self._rows, notes)

    async def _all(self, window: Window, rows: Sequence[Row]) -> list[Notes]:
        asking = [keep_awaiting(window, functools.partial(self._call, row.feeds)) for row in rows]
        return await asyncio.gather(*asking)
