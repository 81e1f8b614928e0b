"""What the scheduler makes of a load, on a virtual clock.

``simulate`` drives the very scheduler that an ``Engine`` has, without threads, tensors or a model: requests come
from an arrival process, runs take as long as a latency table says, and nothing waits for real time. All that it
draws follows from a seed: under each policy the same requests come, and the n-th run deviates from its mean by the
same factor.

``python -m paddleinfer.simulation`` compares the policies over a range of loads.
"""

from __future__ import annotations

import argparse
import heapq
import importlib
import importlib.util
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.arrival_processes import ArrivalProcess, Bursty, ClosedLoop, Drawn, Poisson, RequestKind
from paddleinfer.errors import ConfigError
from paddleinfer.run_times import LatencyTable, RunTimes, attainable_goodput, capacity

__all__ = ["POLICIES", "Policy", "SimulationResult", "main", "simulate"]

_NEVER = 1 << 62
_SHORTEST_RETRY_NS = 1_000_000  # of a caller who was refused: without it, no time might pass at all

# In place of the time at which a request was done.
_NOT_COME, _LEFT, _REFUSED, _SHED, _EXPIRED = -1, -2, -3, -4, -5
_CODES = {"left": _LEFT, "refused": _REFUSED, "shed": _SHED, "expired": _EXPIRED}


@dataclass(frozen=True)
class Policy:
    """How batches are made."""

    name: str = "adaptive"
    """"adaptive", "eager" (an idle instance takes what waits, up to a batch) or "fixed_delay" (a batch goes when it
    is full, or when its first request has waited ``delay_ms``)."""
    delay_ms: float | None = None
    """Milliseconds: the delay of "fixed_delay"; of "adaptive", the longest that a request is held; None: no limit."""

    def __post_init__(self) -> None:
        if self.name not in _ext.POLICIES:
            raise ConfigError(f"a policy must be one of {', '.join(_ext.POLICIES)}, not {self.name!r}")
        if self.delay_ms is None and self.name == "fixed_delay":
            raise ConfigError("the policy fixed_delay needs a delay_ms")
        if self.delay_ms is not None and not 0 <= self.delay_ms < math.inf:
            raise ConfigError(f"delay_ms must be 0 or more, not {self.delay_ms!r}")

    def __str__(self) -> str:
        name = self.name.replace("_", " ")
        return name if self.delay_ms is None else f"{name} {self.delay_ms:g} ms"


POLICIES = (Policy(), Policy("eager"), *(Policy("fixed_delay", delay_ms) for delay_ms in (1, 2, 5, 10)))
"""Those that are compared."""


@dataclass(frozen=True)
class SimulationResult:
    """What became of the requests. All of them are in one of the counts from ``in_time`` to ``left``."""

    policy: Policy
    seconds: float
    """From the start of the virtual clock to the last event."""
    offered: int
    """Requests that came."""
    in_time: int
    """Requests done within their deadline, or done and without one."""
    late: int
    """Requests that ran, but were done after their deadline."""
    refused: int
    """Requests that were not taken: the queue was full, or their deadline was predicted to pass."""
    shed: int
    """Requests dropped when their turn came, because their deadline was predicted to pass."""
    expired: int
    """Requests dropped when their turn came, because their deadline had passed."""
    left: int
    """Requests that waited or ran when the simulation ended."""
    goodput_per_s: float
    """``in_time`` over ``seconds``."""
    mean_ms: float
    """Milliseconds from arrival to end, of the requests that were done; NaN where none was. So are the next two."""
    p50_ms: float
    p99_ms: float
    runs: int
    """Batches that were started."""
    mean_batch_rows: float
    reasons: dict[str, int]
    """Why batches went (see ``InferInfo.dispatch_reason``) -> how many did."""
    utilisation: float
    """The share of its time for which an instance was busy, on average."""
    latencies_ms: npt.NDArray[np.float64] = field(repr=False, compare=False)
    """Milliseconds from arrival to end, by request; NaN for those that were not done."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; without ``latencies_ms``."""
        values = {name: value for name, value in vars(self).items() if name != "latencies_ms"}
        finite = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in values.items()
        }
        return {**finite, "policy": asdict(self.policy)}


def simulate(
    arrivals: ArrivalProcess,
    table: LatencyTable,
    policy: Policy = POLICIES[0],
    *,
    instances: int = 1,
    requests: int = 10_000,
    seed: int = 1,
    max_batch_size: int = 32,
    max_queue_rows: int = 4096,
    drain: bool = True,
    make_scheduler: Callable[..., Any] = _ext.Scheduler,
) -> SimulationResult:
    """Serve so many requests.

    Parameters
    ----------
    instances
        How many runs there can be at once.
    max_batch_size, max_queue_rows
        In rows; as an ``Engine`` has them.
    drain
        False: the simulation ends with the last arrival, and what has not ended by then is ``left``. Rates are
        then those of steady traffic.
    make_scheduler
        Called with the options of ``_ext.Scheduler``; for something that watches one.
    """
    if instances < 1 or requests < 1 or max_batch_size < 1 or max_queue_rows < 1:
        raise ConfigError("instances, requests, max_batch_size and max_queue_rows must be at least 1")
    scheduler = make_scheduler(
        instances=instances,
        policy=policy.name,
        max_batch_size=max_batch_size,
        max_queue_rows=max_queue_rows,
        max_hold_us=None if policy.delay_ms is None else round(policy.delay_ms * 1e3),
    )
    drawn = arrivals.draw(requests, seed)
    simulation = _Simulation(drawn, scheduler, instances, RunTimes(table, max_batch_size, seed))
    simulation.go(drain)
    return simulation.result(policy)


class _Simulation:
    """One scheduler, its clock, and what has happened so far."""

    def __init__(self, drawn: Drawn, scheduler: Any, instances: int, run_times: RunTimes) -> None:
        self._drawn = drawn
        self._scheduler = scheduler
        self._instances = instances
        self._run_times = run_times
        self._kinds = [
            (kind.rows, round(kind.deadline_ms * 1e6) if kind.deadline_ms else None, kind.priority, kind.bucket)
            for kind in drawn.kinds
        ]
        self._count = len(drawn.kind_of)
        # By request: when it came, and when, or else how, it ended.
        self._arrived_ns = [0] * self._count
        self._ended = [_NOT_COME] * self._count
        self._offered = 0
        # Heaps of (when, number): calls to come, and batches that run with the nanoseconds they take.
        first = range(min(max(1, drawn.callers), self._count))
        self._calls = sorted((drawn.offsets_ns[number], number) for number in first)
        self._running: list[tuple[int, int, int]] = []
        self._reasons: Counter[str] = Counter()
        self._rows = self._busy_ns = self._now = 0

    def go(self, drain: bool) -> None:
        """Until all has ended, or with the last arrival."""
        calls, running = self._calls, self._running
        wake_at = _NEVER
        while True:
            coming = calls[0][0] if calls else _NEVER
            ending = running[0][0] if running else _NEVER
            now = min(coming, ending, wake_at)
            if now == _NEVER:
                return
            self._now = now
            # A decision knows of all that happens at its instant.
            while running and running[0][0] == now:
                self._end_batch(now)
            while calls and calls[0][0] == now:
                self._admit(now)
            wake_at = self._decide(now) if len(running) < self._instances else _NEVER
            if not drain and self._offered == self._count:
                return

    def _admit(self, now: int) -> None:
        number = heapq.heappop(self._calls)[1]
        drawn = self._drawn
        if not drawn.callers and number + 1 < self._count:
            heapq.heappush(self._calls, (drawn.offsets_ns[number + 1], number + 1))
        rows, allowed_ns, priority, bucket = self._kinds[drawn.kind_of[number]]
        deadline = None if allowed_ns is None else now + allowed_ns
        self._offered += 1
        self._arrived_ns[number] = now
        self._ended[number] = _LEFT
        admission = self._scheduler.admit(
            number, now, rows=rows, bucket=bucket, deadline=deadline, priority=priority
        )
        if admission != "accepted":
            self._ended[number] = _REFUSED
            self._call_again(number, now, _SHORTEST_RETRY_NS)

    def _decide(self, now: int) -> int:
        """Starts what should start now, and says when to look again."""
        while len(self._running) < self._instances:
            batch = self._scheduler.next(now)
            for number, how in batch.late:
                self._ended[number] = _SHED if how == "shed" else _EXPIRED
                self._call_again(number, now)
            if batch.number is None:
                return _NEVER if batch.wake_at is None else int(batch.wake_at)
            run_ns = self._run_times.draw(batch.rows)
            self._reasons[batch.reason] += 1
            self._rows += batch.rows
            self._busy_ns += run_ns
            heapq.heappush(self._running, (now + run_ns, batch.number, run_ns))
        return _NEVER

    def _end_batch(self, now: int) -> None:
        _, batch, run_ns = heapq.heappop(self._running)
        for number in self._scheduler.done(batch, run_ns, now):
            self._ended[number] = now
            self._call_again(number, now)

    def _call_again(self, number: int, now: int, at_least_ns: int = 0) -> None:
        """The caller of a request that has ended thinks and makes the next one."""
        callers = self._drawn.callers
        if callers and number + callers < self._count:
            think_ns = max(at_least_ns, self._drawn.offsets_ns[number + callers])
            heapq.heappush(self._calls, (now + think_ns, number + callers))

    def result(self, policy: Policy) -> SimulationResult:
        """The counts, and what they come to."""
        ended = np.array(self._ended, dtype=np.int64)
        done = ended >= 0
        latencies_ms = np.where(done, (ended - np.array(self._arrived_ns, dtype=np.int64)) / 1e6, np.nan)
        limits_ms = np.array([math.inf if kind.deadline_ms is None else kind.deadline_ms for kind in self._drawn.kinds])
        in_time = int(np.sum(done & (latencies_ms <= limits_ms[self._drawn.kind_of])))
        seconds = self._now / 1e9
        busy_ns = self._busy_ns - sum(end - self._now for end, _, _ in self._running)
        runs = sum(self._reasons.values())
        of_done = latencies_ms[done] if done.any() else np.array([math.nan])
        p50_ms, p99_ms = np.percentile(of_done, (50, 99))
        return SimulationResult(
            policy=policy,
            seconds=seconds,
            offered=self._offered,
            in_time=in_time,
            late=int(done.sum()) - in_time,
            **{name: int(np.sum(ended == code)) for name, code in _CODES.items()},
            goodput_per_s=in_time / seconds if seconds else 0.0,
            mean_ms=float(of_done.mean()),
            p50_ms=float(p50_ms),
            p99_ms=float(p99_ms),
            runs=runs,
            mean_batch_rows=self._rows / runs if runs else 0.0,
            reasons=dict(self._reasons),
            utilisation=busy_ns / (self._now * self._instances) if self._now else 0.0,
            latencies_ms=latencies_ms,
        )


@dataclass(frozen=True)
class _Point:
    """What came of one load."""

    load: float
    attainable_per_s: float | None
    results: list[SimulationResult]


def _compare(options: argparse.Namespace, rows_per_s: float, table: LatencyTable) -> list[_Point]:
    kinds = (RequestKind(deadline_ms=options.deadline_ms),)
    points = []
    for load in options.load:
        rate = load * rows_per_s
        arrivals: ArrivalProcess
        if options.arrivals == "closed":
            # As many callers as ask at this rate when an answer takes half the deadline.
            callers = max(1, round(rate * 1.5 * options.deadline_ms / 1e3))
            arrivals = ClosedLoop(callers, think_ms=options.deadline_ms, kinds=kinds)
        else:
            arrivals = (Poisson if options.arrivals == "poisson" else Bursty)(rate, kinds=kinds)
        drawn = {"requests": options.requests, "seed": options.seed}
        best = None if options.arrivals == "closed" else attainable_goodput(arrivals, rows_per_s, **drawn)
        results = [
            simulate(arrivals, table, policy, instances=options.instances, drain=False, **drawn)
            for policy in POLICIES
        ]
        points.append(_Point(load, best, results))
    return points


def _table(points: list[_Point], rows_per_s: float) -> Any:
    table = importlib.import_module("rich.table").Table(
        caption="goodput: requests done in time, of the capacity; ms: of the requests that were done",
    )
    columns = "load policy goodput late refused shed expired mean\nms p50\nms p99\nms rows\nper_run busy"
    for name in columns.split(" "):
        table.add_column(name.replace("_", " "), justify="left" if name == "policy" else "right")
    for point in points:
        for result in point.results:
            first = result is point.results[0]
            shares = (result.late, result.refused, result.shed, result.expired)
            table.add_row(
                f"{point.load:g}" if first else "",
                str(result.policy),
                f"{result.goodput_per_s / rows_per_s:.1%}",
                *(f"{count / result.offered:.1%}" if count else "" for count in shares),
                *(f"{time_ms:.1f}" for time_ms in (result.mean_ms, result.p50_ms, result.p99_ms)),
                f"{result.mean_batch_rows:.1f}",
                f"{result.utilisation:.0%}",
                style="bold" if first else None,
                end_section=result is point.results[-1],
            )
    return table


def _draw(path: Path, title: str, points: list[_Point], rows_per_s: float, deadline_ms: float) -> None:
    importlib.import_module("matplotlib").use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(9, 8), sharex=True, layout="constrained")
    loads = [point.load for point in points]
    colours = ("#1f6feb", "#24292f", "#f2b88b", "#ec8f4f", "#d1622b", "#8f3a12")
    for place in reversed(range(len(POLICIES))):
        results = [point.results[place] for point in points]
        style = {"color": colours[place], "lw": 1.4, "marker": "oDv^<>"[place], "ms": 5} | (
            {"lw": 3.2, "ms": 7} if place == 0 else {}
        )
        label = str(POLICIES[place])
        upper.plot(loads, [result.goodput_per_s / rows_per_s for result in results], label=label, **style)
        lower.plot(loads, [result.p99_ms for result in results], **style)
    if points[0].attainable_per_s is not None:
        best = [(point.attainable_per_s or 0) / rows_per_s for point in points]
        upper.plot(loads, best, color="#8c959f", lw=1.2, ls="--", label="upper bound", zorder=0)
    lower.axhline(deadline_ms, color="#8c959f", lw=1.2, ls="--", zorder=0)
    lower.annotate("deadline", (0, deadline_ms), (4, 5), "axes fraction", textcoords="offset points")
    upper.set_ylabel("goodput, of the capacity")
    upper.yaxis.set_major_formatter("{x:.0%}")
