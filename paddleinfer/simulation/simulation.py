"""Simulates what the scheduler makes of a load, on a virtual clock.

``simulate`` drives the same scheduler that an ``Engine`` has, without threads, tensors or a model: requests
come from an arrival process, runs take as long as a latency table says, and nothing waits for real time. All
draws follow from a seed: under each policy the same requests come, and the n-th run deviates from its mean by
the same factor.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.config import BatchingOptions
from paddleinfer.config import Policy as PolicyName
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown
from paddleinfer.simulation.arrivals import ArrivalProcess, Drawn
from paddleinfer.simulation.latency_table import LatencyTable, RunTimes
from paddleinfer.virtual_clock import Happening, VirtualClock

__all__ = [
    "POLICIES",
    "Policy",
    "SimulationResult",
    "check_counts",
    "request_classes",
    "result_of",
    "simulate",
]

_SHORTEST_RETRY_NS = 1_000_000  # the pause of a caller who was refused: without it, time might stand still

# These stand in place of the time at which a request was done.
_NOT_COME = -1
_LEFT = _ext.Fleet.ENDED_LEFT
_REFUSED = _ext.Fleet.ENDED_REFUSED
_SHED = _ext.Fleet.ENDED_SHED
_EXPIRED = _ext.Fleet.ENDED_EXPIRED
_CODES = {"left": _LEFT, "refused": _REFUSED, "shed": _SHED, "expired": _EXPIRED}


@dataclass(frozen=True)
class Policy:
    """How batches are made."""

    name: PolicyName = "adaptive"
    """"adaptive", "eager" (an idle instance takes what waits, up to a batch) or "fixed_delay" (a batch goes
    when it is full, or when its first request has waited ``delay_ms``)."""
    delay_ms: float | None = None
    """The delay of "fixed_delay", or the longest delay of "adaptive", in milliseconds; None for no limit."""

    def __post_init__(self) -> None:
        if self.name not in _ext.POLICIES:
            raise ConfigError(f"a policy must be one of {', '.join(_ext.POLICIES)}, not {shown(self.name)}")
        if self.delay_ms is None and self.name == "fixed_delay":
            raise ConfigError("the policy fixed_delay needs a delay_ms")
        if self.delay_ms is not None and not 0 <= self.delay_ms < math.inf:
            raise ConfigError(f"delay_ms must be 0 or more, not {shown(self.delay_ms)}")

    def batching(self, max_batch_size: int, max_queue_rows: int) -> BatchingOptions:
        """Returns the options of a scheduler with this policy."""
        return BatchingOptions(
            policy=self.name,
            max_batch_size=max_batch_size,
            max_queue_rows=max_queue_rows,
            max_queue_delay_us=None if self.delay_ms is None else round(self.delay_ms * 1e3),
        )

    def __str__(self) -> str:
        name = self.name.replace("_", " ")
        return name if self.delay_ms is None else f"{name} {self.delay_ms:g} ms"


POLICIES = (Policy(), Policy("eager"), *(Policy("fixed_delay", delay_ms) for delay_ms in (1, 2, 5, 10)))
"""The policies that are compared."""


@dataclass(frozen=True)
class SimulationResult:
    """What became of the requests. Each of them is in one of the counts from ``in_time`` to ``left``."""

    policy: Policy
    """The policy that was simulated."""
    seconds: float
    """Seconds from the start of the virtual clock to the last event."""
    offered: int
    """Requests that came."""
    in_time: int
    """Requests done within their deadline, or done and without one."""
    late: int
    """Requests that ran, but were done after their deadline."""
    refused: int
    """Requests that were refused: the queue was full, or was predicted to make them late."""
    shed: int
    """Requests dropped, at once or in their turn, because no run was predicted to meet their deadline."""
    expired: int
    """Requests dropped when their turn came, because their deadline had passed."""
    left: int
    """Requests that waited or ran when the simulation ended."""
    goodput_per_s: float
    """``in_time`` over ``seconds``."""
    mean_ms: float
    """The mean milliseconds from arrival to end of the requests that were done; NaN if none was."""
    p50_ms: float
    """The median of these times."""
    p99_ms: float
    """Their 99th percentile."""
    runs: int
    """Batches that were started."""
    mean_batch_rows: float
    """The mean rows of a batch; 0 if none was started."""
    reasons: dict[str, int]
    """Why batches went (see ``InferInfo.dispatch_reason``) -> how many did."""
    utilisation: float
    """The mean share of its time for which an instance was busy."""
    latencies_ms: npt.NDArray[np.float64] = field(repr=False, compare=False)
    """Milliseconds from arrival to end, by request; NaN for requests that were not done."""

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data, for JSON, without ``latencies_ms``."""
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
    """Simulates `requests` requests under one policy.

    Parameters
    ----------
    instances
        How many runs there may be at once.
    max_batch_size, max_queue_rows
        The options of ``Engine``, in rows.
    drain
        If False, the simulation ends with the last arrival, and requests that have not ended by then are
        ``left``. Rates are then those of steady traffic.
    make_scheduler
        What makes the scheduler, called as ``_ext.Scheduler`` is; it allows to watch one.
    """
    check_counts(
        instances=instances, requests=requests, max_batch_size=max_batch_size, max_queue_rows=max_queue_rows
    )
    scheduler = make_scheduler(policy.batching(max_batch_size, max_queue_rows), instances=instances)
    drawn = arrivals.draw(requests, seed)
    simulation = _Simulation(drawn, scheduler, instances, RunTimes(table, max_batch_size, seed))
    simulation.go(drain)
    return simulation.result(policy)


class _Simulation:
    """One scheduler on a virtual clock, and what has happened so far."""

    def __init__(self, drawn: Drawn, scheduler: Any, instances: int, run_times: RunTimes) -> None:
        self._drawn = drawn
        self._scheduler = scheduler
        self._instances = instances
        self._run_times = run_times
        self._clock = VirtualClock(scheduler, instances, self._start, self._drop)
        self._kinds = request_classes(drawn)
        # Single numbers are quicker to read of lists.
        self._kind_of: list[int] = drawn.kind_of.tolist()
        self._offsets_ns: list[int] = drawn.offsets_ns.tolist()
        self._count = len(drawn.kind_of)
        # For each request: when it came, and when, or else how, it ended.
        self._arrived_ns = [0] * self._count
        self._ended = [_NOT_COME] * self._count
        self._offered = 0
        self._drawn_so_far = min(max(1, drawn.callers), self._count)
        for number in range(self._drawn_so_far):
            self._call_at(self._offsets_ns[number], number)
        self._running: dict[int, int] = {}
        """Batch -> when its run ends."""
        self._reasons: Counter[str] = Counter()
        self._rows = self._busy_ns = 0

    def go(self, drain: bool) -> None:
        """Runs until all has ended, or until the last arrival."""
        self._clock.run(stop=None if drain else lambda: self._offered == self._count)

    def _call_at(self, time: int, number: int) -> None:
        self._clock.at(time, Happening.ARRIVAL, functools.partial(self._admit, number))

    def _admit(self, number: int) -> None:
        drawn, now = self._drawn, self._clock.now
        if not drawn.callers and number + 1 < self._count:
            self._call_at(self._offsets_ns[number + 1], number + 1)
        rows, allowed_ns, priority, bucket = self._kinds[self._kind_of[number]]
        deadline = None if allowed_ns is None else now + allowed_ns
        self._offered += 1
        self._arrived_ns[number] = now
        self._ended[number] = _LEFT
        admission = self._scheduler.admit(
            number, now, rows=rows, bucket=bucket, deadline=deadline, priority=priority
        )
        if admission != "accepted":
            self._ended[number] = _SHED if admission == "infeasible" else _REFUSED
            self._call_again(_SHORTEST_RETRY_NS)

    def _drop(self, number: int, how: str) -> None:
        self._ended[number] = _SHED if how == "shed" else _EXPIRED
        self._call_again()

    def _start(self, batch: _ext.Batch, instance: int) -> None:
        assert batch.number is not None
        run_ns = self._run_times.draw(batch.rows)
        end = self._clock.now + run_ns
        self._reasons[batch.reason] += 1
        self._rows += batch.rows
        self._busy_ns += run_ns
        self._running[batch.number] = end
        self._clock.at(
            end, Happening.RUN_ENDS, functools.partial(self._end_batch, batch.number, instance, run_ns)
        )

    def _end_batch(self, batch: int, instance: int, run_ns: int) -> None:
        now = self._clock.now
        del self._running[batch]
        self._clock.free(instance)
        for number in self._scheduler.done(batch, run_ns, now):
            self._ended[number] = now
            self._call_again()

    def _call_again(self, at_least_ns: int = 0) -> None:
        """Has the caller of an ended request think, and make the next call."""
        if self._drawn.callers and self._drawn_so_far < self._count:
            number = self._drawn_so_far
            self._drawn_so_far += 1
            think_ns = max(at_least_ns, self._offsets_ns[number])
            self._call_at(self._clock.now + think_ns, number)

    def result(self, policy: Policy) -> SimulationResult:
        """Returns the counts and the figures that follow from them."""
        now = self._clock.now
        return result_of(
            self._drawn,
            policy,
            called_ns=np.array(self._arrived_ns, dtype=np.int64),
            ended=np.array(self._ended, dtype=np.int64),
            offered=self._offered,
            now_ns=now,
            busy_ns=self._busy_ns - sum(end - now for end in self._running.values()),
            instance_ns=now * self._instances,
            rows=self._rows,
            reasons=dict(self._reasons),
        )


def check_counts(**counts: int) -> None:
    """Refuses, in one sentence, counts that are less than 1."""
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, not {shown(value)}")


def request_classes(drawn: Drawn) -> list[tuple[int, int | None, int, int]]:
    """Returns rows, nanoseconds to the deadline, priority and bucket of each kind."""
    return [
        (kind.rows, round(kind.deadline_ms * 1e6) if kind.deadline_ms else None, kind.priority, kind.bucket)
        for kind in drawn.kinds
    ]


def result_of(
    drawn: Drawn,
    policy: Policy,
    *,
    called_ns: npt.NDArray[np.int64],
    ended: npt.NDArray[np.int64],
    offered: int,
    now_ns: int,
    busy_ns: int,
    instance_ns: int,
    rows: int,
    reasons: dict[str, int],
) -> SimulationResult:
    """Makes a result.

    Parameters
    ----------
    called_ns, ended
        Of each request: when it came, and when, or else how, it ended.
    busy_ns, instance_ns
        How long instances ran, of how long there were any.
    rows
        Of all batches.
    """
    done = ended >= 0
    latencies_ms = np.where(done, (ended - called_ns) / 1e6, np.nan)
    limits_ms = np.array([math.inf if kind.deadline_ms is None else kind.deadline_ms for kind in drawn.kinds])
    in_time = int(np.sum(done & (latencies_ms <= limits_ms[drawn.kind_of])))
    seconds = now_ns / 1e9
    runs = sum(reasons.values())
    of_done = latencies_ms[done] if done.any() else np.array([math.nan])
    p50_ms, p99_ms = np.percentile(of_done, (50, 99))
    return SimulationResult(
        policy=policy,
        seconds=seconds,
        offered=offered,
        in_time=in_time,
        late=int(done.sum()) - in_time,
        **{name: int(np.sum(ended == code)) for name, code in _CODES.items()},
        goodput_per_s=in_time / seconds if seconds else 0.0,
        mean_ms=float(of_done.mean()),
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
        runs=runs,
        mean_batch_rows=rows / runs if runs else 0.0,
        reasons=reasons,
        utilisation=busy_ns / instance_ns if instance_ns else 0.0,
        latencies_ms=latencies_ms,
    )
