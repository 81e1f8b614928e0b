"""Runs open-loop load: requests come at their own times, and an answer is useful for 50 ms only.

The times of a Poisson process and the rows are drawn beforehand; during the load the generator only calls and
counts. If it is late, the request has less time: the 50 ms begin when the request was due. For this, for
comparing answers and for the cost of refusals it is not ``paddleinfer.traffic``.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from benchmarks import harness
from benchmarks.load.closed_loop import Feeds, Results, Row
from paddleinfer import DeadlineExceeded, QueueFull

DEADLINE_S = 0.050
# One in this many answered requests has its answer compared and its InferInfo read.
KEPT_EVERY = 64
# The generator's shortest sleep, so that it does not spend its time on falling asleep.
SHORTEST_SLEEP_S = 0.000_5
# uvloop counts whole milliseconds.
SHORTEST_LOOP_SLEEP_S = 0.001
# The time after the last request, after which every answer is late anyway.
PATIENCE_S = 2.0

_clock = time.perf_counter

Submit = Callable[[Feeds, float], "Future[Results]"]
Ainfer = Callable[..., Coroutine[Any, Any, Results]]


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Draws when requests come, in seconds from the beginning."""
    random = np.random.default_rng(seed)
    gaps = random.exponential(1 / rate, int(rate * seconds * 1.1) + 100)
    times = np.cumsum(gaps)
    return [float(at) for at in times[times < seconds]]


@dataclass
class Tally:
    """What became of the requests of one load."""

    offered: int = 0
    in_time: int = 0
    late: int = 0
    """Answered, after the deadline."""
    refused: int = 0
    exceeded: int = 0
    """Accepted, and ended with DeadlineExceeded."""
    failed: int = 0
    uncalled: int = 0
    """Not sent in time, because the generator itself was too late."""
    refusal_cpu_s: list[float] = field(default_factory=list)
    refusal_s: list[float] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    lag_s: list[float] = field(default_factory=list)
    kept: list[tuple[int, Results]] = field(default_factory=list)
    infos: list[Any] = field(default_factory=list)

    @property
    def over(self) -> int:
        """How many requests have a known end."""
        return self.in_time + self.late + self.refused + self.exceeded + self.failed + self.uncalled

    def answered(self, place: int, due: float, result: Results) -> None:
        """Notes a result that the caller has."""
        taken = _clock() - due
        self.latency_s.append(taken)
        if taken <= DEADLINE_S:
            self.in_time += 1
        else:
            self.late += 1
        if place % KEPT_EVERY == 0:
            self.kept.append((place, result))

    def different(self, rows: Sequence[Row]) -> int:
        """How many kept answers differ from the single-row answers to their rows."""
        return sum(
            not all(
                harness.equal(*pair)
                for pair in zip(result.values(), rows[place % len(rows)].expected, strict=True)
            )
            for place, result in self.kept
        )

    def reasons(self) -> dict[str, int]:
        """Why batches went, over the requests that were asked."""
        return dict(Counter(info.dispatch_reason for info in self.infos))

    def run_over_predicted(self) -> list[float]:
        """The ratio of run times to their predictions."""
        return [info.run_us / info.predicted_us for info in self.infos if info.predicted_us]


class Generator(Protocol):
    """Something that offers requests to one variant."""

    def load(self, rate: float, seconds: float, seed: int) -> Tally:
        """Offers so many a second, until each has ended or is late."""


class Thread:
    """A thread that submits and does not wait; answers are counted where they arrive."""

    def __init__(self, submit: Submit, rows: Sequence[Row]) -> None:
        self._submit = submit
        self._feeds = [row.feeds for row in rows]

    def load(self, rate: float, seconds: float, seed: int) -> Tally:
        """Does what Generator says."""
        tally = Tally()
        with ThreadPoolExecutor(1) as thread:
            thread.submit(self._offer, tally, arrivals(rate, seconds, seed)).result()
        end = _clock() + PATIENCE_S
        while tally.over < tally.offered and _clock() < end:
            time.sleep(0.01)
        return tally

    def _offer(self, tally: Tally, times: Sequence[float]) -> None:
        cpu, feeds = time.thread_time, self._feeds
        begin = _clock()
        for place, after in enumerate(times):
            due = begin + after
            while (left := due - _clock()) > 0:
                time.sleep(max(left, SHORTEST_SLEEP_S))
            called = _clock()
            tally.offered += 1
            tally.lag_s.append(called - due)
            if called >= due + DEADLINE_S:
                tally.uncalled += 1
                continue
            cpu_before = cpu()
            try:
                future = self._submit(feeds[place % len(feeds)], due + DEADLINE_S - called)
            except QueueFull:
                tally.refusal_cpu_s.append(cpu() - cpu_before)
                tally.refusal_s.append(_clock() - called)
                tally.refused += 1
                continue
            future.add_done_callback(functools.partial(_ended, tally, place, due))


def _ended(tally: Tally, place: int, due: float, future: Future[Results]) -> None:
    error = future.exception()
    if error is None:
        tally.answered(place, due, future.result())
        if place % KEPT_EVERY == 0:
            info = getattr(future, "info", None)
            if info is not None:
                tally.infos.append(info)
    elif isinstance(error, DeadlineExceeded):
        tally.exceeded += 1
    else:
        tally.failed += 1


class Tasks:
    """A task for each request, on an event loop of its own in a thread of its own."""

    def __init__(
        self, ainfer: Ainfer, rows: Sequence[Row], new_loop: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        self._ainfer = ainfer
        self._feeds = [row.feeds for row in rows]
        self._thread = ThreadPoolExecutor(1)
        self._loop = new_loop()

    def load(self, rate: float, seconds: float, seed: int) -> Tally:
        """Does what Generator says."""
        tally = Tally()
        offering = self._offer(tally, arrivals(rate, seconds, seed))
        self._thread.submit(self._loop.run_until_complete, offering).result()
        return tally

    async def _offer(self, tally: Tally, times: Sequence[float]) -> None:
        tasks: set[asyncio.Task[None]] = set()
        begin = _clock()
        for place, after in enumerate(times):
            due = begin + after
            while (left := due - _clock()) > 0:
                await asyncio.sleep(max(left, SHORTEST_LOOP_SLEEP_S))
            tally.offered += 1
            task = asyncio.create_task(self._ask(tally, place, due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE_S)

    async def _ask(self, tally: Tally, place: int, due: float) -> None:
        called = _clock()
        tally.lag_s.append(called - due)
        left = due + DEADLINE_S - called
        if left <= 0:
            tally.uncalled += 1
            return
        try:
            result = await self._ainfer(self._feeds[place % len(self._feeds)], timeout=left)
        except QueueFull:
            tally.refusal_s.append(_clock() - called)
            tally.refused += 1
        except DeadlineExceeded:
            tally.exceeded += 1
        else:
            tally.answered(place, due, result)
