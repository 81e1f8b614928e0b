"""Loads, latencies and policies for tests of the simulator, and a scheduler that is watched in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from paddleinfer import _ext
from paddleinfer.config import BatchingOptions
from paddleinfer.simulation import POLICIES, SimulationResult, simulate
from paddleinfer.simulation.arrivals import ArrivalProcess, Bursty, ClosedLoop, Poisson, Recorded, RequestKind
from paddleinfer.simulation.latency_table import LatencyTable

ADAPTIVE, EAGER, *FIXED_DELAYS = POLICIES
MS = 1_000_000
SLACK_MS = (100, 1_000, 10_000)
TABLE = LatencyTable.linear(9_000, 300)
URGENT = (RequestKind(deadline_ms=50),)
MIXED = (
    RequestKind(deadline_ms=40, priority=0, weight=0.3),
    RequestKind(rows=3, deadline_ms=200, bucket=1, weight=0.3),
    RequestKind(rows=2, priority=2, weight=0.2),
    RequestKind(priority=0, bucket=1, weight=0.2),
)
PROCESSES: dict[str, ArrivalProcess] = {
    "poisson": Poisson(2_500, MIXED),
    "bursty": Bursty(1_500, kinds=MIXED),
    "closed": ClosedLoop(90, think_ms=20, kinds=MIXED),
    "recorded": Recorded([0.004 * (n // 9) for n in range(2_000)], MIXED),
}
by_process = pytest.mark.parametrize("process", PROCESSES)
by_policy = pytest.mark.parametrize("policy", POLICIES, ids=str)


class Watched:
    """A scheduler, and all that it was asked and said."""

    def __init__(self, batching: BatchingOptions, *, instances: int) -> None:
        self.batching = batching
        self.instances = instances
        self.scheduler = _ext.Scheduler(batching, instances=instances)
        self.arrivals: list[tuple[int, int, dict[str, Any]]] = []
        self.run_times: list[tuple[int, int]] = []  # rows, nanoseconds
        self.rows: dict[int, int] = {}

    def admit(self, number: int, now: int, **about: Any) -> str:
        self.arrivals.append((number, now, about))
        return self.scheduler.admit(number, now, **about)

    def next(self, now: int) -> _ext.Batch:
        batch = self.scheduler.next(now)
        if batch.number is not None:
            self.rows[batch.number] = batch.rows
        return batch

    def done(self, batch: int, run_ns: int, now: int) -> list[Any]:
        self.run_times.append((self.rows[batch], run_ns))
        return self.scheduler.done(batch, run_ns, now)


def watch(make: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[SimulationResult, Any]:
    made: list[Any] = []

    def make_scheduler(batching: BatchingOptions, *, instances: int) -> Any:
        made.append(make(batching, instances=instances))
        return made[0]

    result = simulate(*arguments, make_scheduler=make_scheduler, **options)
    return result, made[0]
