"""Simulates replicas behind a router, on a virtual clock; the scheduler of engines drives each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from paddleinfer import _ext
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown
from paddleinfer.simulation.arrivals import ArrivalProcess, Drawn
from paddleinfer.simulation.autoscaling import (
    MOST_INSTANCES,
    YEAR_S,
    Autoscaler,
    Autoscaling,
    Measured,
)
from paddleinfer.simulation.latency_table import LatencyTable, RunTimes
from paddleinfer.simulation.simulation import (
    POLICIES,
    Policy,
    SimulationResult,
    check_counts,
    request_classes,
    result_of,
)

__all__ = ["ROUTERS", "FleetResult", "Router", "simulate_fleet"]

Router = Literal[
    "round_robin",
    "random",
    "power_of_two_requests",
    "power_of_two_rows",
    "power_of_two_delay",
    "least_delay",
]
ROUTERS: tuple[Router, ...] = get_args(Router)
"""How a router may choose: in turn; by chance; of two replicas drawn by chance the one with fewer requests,
fewer rows, or the shorter predicted delay; of all replicas the one with the shortest predicted delay."""


_MOST_DECISIONS = 200_000
_SPEEDS = 4  # the stream of random numbers after that of run times


@dataclass(frozen=True)
class FleetResult:
    """What became of the requests, and what the replicas cost."""

    router: Router
    """How the router chose."""
    replicas: int
    """Replicas at the start."""
    requests: SimulationResult
    """What became of the requests; ``utilisation`` is over the time for which there were replicas."""
    replica_s: float
    """Seconds for which there were replicas, summed: from the beginning of a start to the end of a drain."""
    replica_s_per_1000_good: float
    """``replica_s`` for each 1,000 requests in time; infinite if there was none."""
    most_replicas: int
    """The most that there were at a decision, those that start included."""
    scaled: list[tuple[float, int]]
    """(second, replicas that there are to be) at the start and at each change."""

    @property
    def mean_replicas(self) -> float:
        """How many there were on average."""
        return self.replica_s / self.requests.seconds if self.requests.seconds else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data, for JSON."""
        cost = self.replica_s_per_1000_good
        return {
            **vars(self),
            "requests": self.requests.as_dict(),
            "mean_replicas": self.mean_replicas,
            "replica_s_per_1000_good": None if math.isinf(cost) else cost,
        }


def simulate_fleet(
    arrivals: ArrivalProcess,
    table: LatencyTable,
    *,
    replicas: int,
    router: Router = "power_of_two_delay",
    policy: Policy = POLICIES[0],
    autoscaling: Autoscaling | None = None,
    stale_ms: float = 0.0,
    network_ms: float = 0.0,
    slow_share: float = 0.0,
    slow_factor: float = 2.0,
    warmup: bool = False,
    instances: int = 1,
    requests: int = 10_000,
    seed: int = 1,
    max_batch_size: int = 32,
    max_queue_rows: int = 4096,
    drain: bool = True,
) -> FleetResult:
    """Simulates `requests` requests to replicas behind one router.

    Parameters
    ----------
    replicas
        How many there are at the start.
    autoscaling
        How their number follows the load; None: it stays.
    stale_ms
        How old the router's figures of the replicas are, in milliseconds.
    network_ms
        How long a request travels from router to replica, and the answer back. A deadline includes both.
    slow_share, slow_factor
        Which share of the replicas, drawn by the seed, is slower, and how many times as long their runs take.
    warmup
        Whether replicas know the run times of all sizes from the start, as after ``Engine.warmup()``.
    instances, max_batch_size, max_queue_rows
        The options of each replica's engine.
    requests, seed, policy, drain
        As of ``simulate``. The n-th run of all replicas deviates from its mean by the same factor under every
        router; one replica behind any router is what ``simulate`` gives.

    Raises
    ------
    ConfigError
        A value is out of range.
    """
    check_counts(
        replicas=replicas,
        instances=instances,
        requests=requests,
        max_batch_size=max_batch_size,
        max_queue_rows=max_queue_rows,
    )
    if router not in ROUTERS:
        raise ConfigError(f"router must be one of {', '.join(ROUTERS)}, not {shown(router)}")
    if replicas * instances > MOST_INSTANCES:
        raise ConfigError(
            f"a simulation has at most {MOST_INSTANCES} instances, not {shown(replicas)} replicas of "
            f"{shown(instances)}"
        )
    for name, value in (("stale_ms", stale_ms), ("network_ms", network_ms)):
        if not 0 <= value <= 1e3 * YEAR_S:
            raise ConfigError(f"{name} must be from 0 to {1000 * YEAR_S}, a year, not {shown(value)}")
    if not 0 <= slow_share <= 1 or not 1 <= slow_factor < math.inf:
        raise ConfigError(
            "slow_share must be from 0 to 1 and slow_factor at least 1, not "
            f"{shown(slow_share)} and {shown(slow_factor)}"
        )
    drawn = arrivals.draw(requests, seed)
    run_times = RunTimes(table, max_batch_size, seed)
    called = np.zeros(len(drawn.kind_of), np.int64)
    ended = np.empty(len(drawn.kind_of), np.int64)
    fleet = _ext.Fleet(
        policy.batching(max_batch_size, max_queue_rows),
        instances=instances,
        routing=router,
        seed=seed,
        stale_ns=round(stale_ms * 1e6),
        network_ns=round(network_ms * 1e6),
        drains=drain,
        warm=warmup,
        run_ns=run_times.means_ns,
        scales=run_times.scales_ns,
        spreads=run_times.spreads,
        classes=request_classes(drawn),
        offsets_ns=drawn.offsets_ns,
        class_of=drawn.kind_of,
        called=called,
        ended=ended,
        callers=drawn.callers,
    )
    factors = _run_factors(slow_share, slow_factor, seed)
    for _ in range(replicas):
        fleet.add_replica(run_factor=next(factors))
    scaled = _run(fleet, run_times, factors, replicas, autoscaling, instances)
    return _result(fleet, drawn, policy, router, replicas, instances, (called, ended), scaled)


def _run_factors(slow_share: float, slow_factor: float, seed: int) -> Iterator[float]:
    """How many times as long the runs of one replica after the other take."""
    random = np.random.default_rng([seed, _SPEEDS])
    while True:
        yield slow_factor if random.random() < slow_share else 1.0


def _run(
    fleet: _ext.Fleet,
    run_times: RunTimes,
    factors: Iterator[float],
    replicas: int,
    autoscaling: Autoscaling | None,
    instances: int,
) -> list[tuple[float, int]]:
    """Runs it to its end, and returns how many replicas there were to be, and from when on."""
    scaled = [(0.0, replicas)]
    if autoscaling is None:
        _run_until(fleet, run_times, None)
        return scaled
    autoscaler = Autoscaler(autoscaling, instances)
    before = fleet.figures()
    interval_ns = max(1, round(autoscaling.interval_s * 1e9))
    decisions = 0
    while _run_until(fleet, run_times, before["now"] + interval_ns):
        decisions += 1
        if decisions > _MOST_DECISIONS:
            raise ConfigError(
                f"interval_s of {shown(autoscaling.interval_s)} makes more than {_MOST_DECISIONS} decisions; "
                "give a longer one"
            )
        after = fleet.figures()
        measured = _measured(before, after, instances)
        wanted = autoscaler.wanted(measured)
        there = measured.open + measured.starting
        for _ in range(wanted - there):
            fleet.add_replica(after["now"] + round(autoscaling.start_s * 1e9), run_factor=next(factors))
        for _ in range(there - wanted):
            fleet.remove_replica()
        if wanted != scaled[-1][1]:
            scaled.append((after["now"] / 1e9, wanted))
        before = after
    return scaled


def _run_until(fleet: _ext.Fleet, run_times: RunTimes, until_ns: int | None) -> bool:
    """Returns whether it goes on after that time."""
    while (pause := fleet.run(until_ns)) == "deviations":
        fleet.feed(run_times.deviations())
    return pause == "time"


def _measured(before: dict[str, Any], after: dict[str, Any], instances: int) -> Measured:
    grew = {name: after[name] - before[name] for name in before}
    return Measured(
        seconds=grew["now"] / 1e9,
        open=after["open"],
        starting=after["starting"],
        busy_s=grew["busy_ns"] / 1e9,
        instance_s=grew["replica_ns"] * instances / 1e9,
        rows_accepted=grew["rows_accepted"],
        work_s=(grew["offered_work_ns"] + after["waiting_work_ns"]) / 1e9,
    )


def _result(
    fleet: _ext.Fleet,
    drawn: Drawn,
    policy: Policy,
    router: Router,
    replicas: int,
    instances: int,
    ends: tuple[Any, Any],
    scaled: list[tuple[float, int]],
) -> FleetResult:
    figures = fleet.figures()
    called, ended = ends
    result = result_of(
        drawn,
        policy,
        called_ns=called,
        ended=ended,
        offered=figures["offered"],
        now_ns=figures["now"],
        busy_ns=figures["busy_ns"],
        instance_ns=figures["replica_ns"] * instances,
        rows=figures["rows_run"],
        reasons=fleet.reasons(),
    )
    replica_s = figures["replica_ns"] / 1e9
    return FleetResult(
        router=router,
        replicas=replicas,
        requests=result,
        replica_s=replica_s,
        replica_s_per_1000_good=1e3 * replica_s / result.in_time if result.in_time else math.inf,
        most_replicas=max(count for _, count in scaled),
        scaled=scaled,
    )
