"""What the scheduler makes of a load, on a virtual clock.

``simulate`` drives the very scheduler that an ``Engine`` has, without threads, tensors or a model: requests
come from an arrival process, runs take as long as a latency table says, and nothing waits for real time. All
draws follow from a seed: under each policy the same requests come, and the n-th run deviates from its mean by
the same factor.

``python -m paddleinfer.simulation`` compares the policies over a range of loads.
"""

from __future__ import annotations

import argparse
import heapq
import importlib
import importlib.util
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext, simulation_report
from paddleinfer.arrival_processes import ArrivalProcess, Bursty, ClosedLoop, Drawn, Poisson, RequestKind
from paddleinfer.errors import ConfigError
from paddleinfer.option_values import OneSentenceParser, count, positive
from paddleinfer.run_times import LatencyTable, RunTimes, attainable_goodput, capacity
from paddleinfer.simulation_report import Point

__all__ = ["POLICIES", "Policy", "SimulationResult", "main", "simulate"]

_LOADS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0)
_ARRIVALS = {"poisson": "Poisson arrivals", "bursty": "Bursty arrivals", "closed": "Callers who wait"}
_NEVER = 1 << 62
_SHORTEST_RETRY_NS = 1_000_000  # of a caller who was refused: without it, no time might pass at all

# In place of the time at which a request was done.
_NOT_COME, _LEFT, _REFUSED, _SHED, _EXPIRED = -1, -2, -3, -4, -5
_CODES = {"left": _LEFT, "refused": _REFUSED, "shed": _SHED, "expired": _EXPIRED}


@dataclass(frozen=True)
class Policy:
    """How batches are made."""

    name: str = "adaptive"
    """"adaptive", "eager" (an idle instance takes what waits, up to a batch) or "fixed_delay" (a batch goes
    when it is full, or when its first request has waited ``delay_ms``)."""
    delay_ms: float | None = None
    """Milliseconds: the delay of "fixed_delay"; the longest hold of "adaptive", None for no limit."""

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
    """Milliseconds from arrival to end, of the requests that were done; NaN where none was."""
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
        False: the simulation ends with the last arrival, and what has not ended by then is ``left``. Rates
        are then those of steady traffic.
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
            (
                kind.rows,
                round(kind.deadline_ms * 1e6) if kind.deadline_ms else None,
                kind.priority,
                kind.bucket,
            )
            for kind in drawn.kinds
        ]
        self._count = len(drawn.kind_of)
        # By request: when it came, and when, or else how, it ended.
        self._arrived_ns = [0] * self._count
        self._ended = [_NOT_COME] * self._count
        self._offered = 0
        # Heaps of (when, number): calls to come, and batches that run with the nanoseconds they take.
        self._drawn_so_far = min(max(1, drawn.callers), self._count)
        self._calls = sorted((drawn.offsets_ns[number], number) for number in range(self._drawn_so_far))
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
            self._call_again(now, _SHORTEST_RETRY_NS)

    def _decide(self, now: int) -> int:
        """Starts what should start now, and says when to look again."""
        while len(self._running) < self._instances:
            batch = self._scheduler.next(now)
            for number, how in batch.late:
                self._ended[number] = _SHED if how == "shed" else _EXPIRED
                self._call_again(now)
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
            self._call_again(now)

    def _call_again(self, now: int, at_least_ns: int = 0) -> None:
        """The caller of a request that has ended thinks, and makes the next call there is to make."""
        if self._drawn.callers and self._drawn_so_far < self._count:
            number = self._drawn_so_far
            self._drawn_so_far += 1
            think_ns = max(at_least_ns, self._drawn.offsets_ns[number])
            heapq.heappush(self._calls, (now + think_ns, number))

    def result(self, policy: Policy) -> SimulationResult:
        """The counts, and what they come to."""
        ended = np.array(self._ended, dtype=np.int64)
        done = ended >= 0
        latencies_ms = np.where(done, (ended - np.array(self._arrived_ns, dtype=np.int64)) / 1e6, np.nan)
        limits_ms = np.array(
            [math.inf if kind.deadline_ms is None else kind.deadline_ms for kind in self._drawn.kinds]
        )
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the policies; the exit code is 2 when a value is wrong or a file cannot be written."""
    parser = OneSentenceParser(
        prog="python -m paddleinfer.simulation", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--load", type=positive, nargs="+", default=_LOADS, help="offered loads, in units of the capacity"
    )
    parser.add_argument("--deadline-ms", type=positive, default=50.0, help="of every request; default: 50")
    parser.add_argument("--instances", type=count, default=1, help="runs at once; default: 1")
    parser.add_argument("--a-us", type=positive, default=9000.0, help="a run of n rows takes a + b * n; 9000")
    parser.add_argument("--b-us", type=positive, default=300.0, help="microseconds a row; default: 300")
    parser.add_argument("--arrivals", choices=tuple(_ARRIVALS), default="poisson")
    parser.add_argument("--requests", type=count, default=20_000, help="at each load; default: 20000")
    parser.add_argument("--seed", type=count, default=1, help="of all that is drawn; default: 1")
    parser.add_argument("--out", type=Path, default=Path("simulation.png"), help="the picture")
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    options = parser.parse_args(arguments)
    missing = [name for name in ("matplotlib", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f'{" and ".join(missing)} must be installed: pip install "paddleinfer[demo]"')
    table = LatencyTable.linear(options.a_us, options.b_us)
    rows_per_s = capacity(table, options.instances, options.deadline_ms)
    if rows_per_s == 0:
        parser.error(
            f"nothing can be in time: two runs of one row may take {2 * table.p95_us(1) / 1e3:.1f} ms, "
            f"and the deadline is {options.deadline_ms:g} ms"
        )
    instances = "1 instance" if options.instances == 1 else f"{options.instances} instances"
    title = (
        f"{_ARRIVALS[options.arrivals]}, {instances}, deadline {options.deadline_ms:g} ms, "
        f"runs of {options.a_us / 1e3:g} ms + {options.b_us / 1e3:g} ms a row"
    )
    points = _compare(options, rows_per_s, table)
    console = importlib.import_module("rich.console").Console()
    for line in (title, f"capacity: {rows_per_s:,.0f} rows a second"):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(simulation_report.table(points, rows_per_s))
    try:
        simulation_report.draw(options.out, title, points, rows_per_s, options.deadline_ms)
        if options.json is not None:
            options.json.write_text(simulation_report.as_json(vars(options), points, rows_per_s))
    except OSError as error:
        parser.error(f"cannot write {error.filename}: {error.strerror}")
    files = [str(path) for path in (options.out, options.json) if path is not None]
    console.print(f"files: {'  '.join(files)}", soft_wrap=True, highlight=False)
    return 0


def _compare(options: argparse.Namespace, rows_per_s: float, table: LatencyTable) -> list[Point]:
    kinds = (RequestKind(deadline_ms=options.deadline_ms),)
    drawn = {"requests": options.requests, "seed": options.seed}
    points = []
    for load in options.load:
        rate = load * rows_per_s
        best = None
        arrivals: ArrivalProcess
        if options.arrivals == "closed":
            # As many callers as ask at this rate when an answer takes half the deadline.
            callers = max(1, round(rate * 1.5 * options.deadline_ms / 1e3))
            arrivals = ClosedLoop(callers, think_ms=options.deadline_ms, kinds=kinds)
        else:
            arrivals = (Poisson if options.arrivals == "poisson" else Bursty)(rate, kinds=kinds)
            best = attainable_goodput(arrivals, rows_per_s, **drawn)
        results = [
            simulate(arrivals, table, policy, instances=options.instances, drain=False, **drawn)
            for policy in POLICIES
        ]
        points.append(Point(load, best, results))
    return points


if __name__ == "__main__":
    sys.exit(main())
