"""What an engine knows of its load, for an autoscaler: delay, losses, and the replicas that it would take."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from paddleinfer.config import EngineConfig
from paddleinfer.engine.engine import Engine
from paddleinfer.simulation.latency_table import LatencyTable, capacity
from paddleinfer.tracing.records import TracedRun

__all__ = ["TARGET_LOAD", "LoadReporter", "latency_table"]

TARGET_LOAD = 0.7
"""The share of its capacity that a replica should have to do; above it bursts are refused."""

# A size counts once it has run as often.
_FEWEST_RUNS = 3
# The most that a LatencyTable takes as the ratio of the 95th percentile to the mean, and a little less.
_MOST_P95_TO_MEAN = 3.8


class LoadReporter:
    """Reports what has happened since the report before.

    Parameters
    ----------
    engine
        The engine; it has to record its runs (``trace_requests``).
    config
        Its options. ``default_timeout`` is the deadline that the load has to meet.
    clock
        It gives seconds.
    """

    def __init__(
        self, engine: Engine, config: EngineConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._deadline_ms = None if config.default_timeout is None else config.default_timeout * 1e3
        self._most_rows = config.batching.most_rows
        self._clock = clock
        self._at_s = clock()
        self._before = engine.stats()
        self._table: LatencyTable | None = None

    def report(self) -> dict[str, float]:
        """Returns the load since the last report; rates are in rows.

        Returns
        -------
        dict
            ``queue_delay_ms``: how long what waits now is predicted to take. ``shed_share``: the share of
            requests that were refused, shed or expired. ``utilisation``: the share of the time in which
            instances were busy. ``offered_rows_per_s``: with those that were refused.
            ``capacity_rows_per_s``: the most that can be in time, by the runs seen so far; 0 while there are
            none. ``replicas_needed``: how many replicas like this one its load would take, to be summed over
            replicas; -1 while that is not known.
        """
        now_s, now = self._clock(), self._engine.stats()
        seconds, self._at_s = max(1e-3, now_s - self._at_s), now_s
        before, self._before = self._before, now
        instances = self._engine.effective_config()["instances"]["value"]
        self._table = latency_table(self._engine.recent_activity().runs) or self._table
        at_most = self._capacity(instances, None)
        in_time = self._capacity(instances, self._deadline_ms) or at_most

        def since(name: str) -> float:
            return float(now[name] - before[name])

        asked = since("requests") + since("refused")
        offered = since("rows") * (asked / since("requests") if since("requests") else 1.0) / seconds
        lost = since("refused") + since("shed") + since("expired")
        return {
            "queue_delay_ms": 1e3 * now["queued_rows"] / at_most if at_most else 0.0,
            "shed_share": lost / asked if asked else 0.0,
            "utilisation": min(1.0, since("run_ns") / 1e9 / seconds / instances),
            "offered_rows_per_s": offered,
            "capacity_rows_per_s": in_time,
            "replicas_needed": offered / in_time / TARGET_LOAD if in_time else -1.0,
        }

    def _capacity(self, instances: int, deadline_ms: float | None) -> float:
        if self._table is None:
            return 0.0
        return capacity(self._table, instances, deadline_ms, self._most_rows)


def latency_table(runs: Iterable[TracedRun]) -> LatencyTable | None:
    """Times of runs by their rows, the copying of rows included; None if too few have run."""
    by_rows: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        if not run.failed:
            by_rows[run.rows].append((run.scatter_end_ns - run.began_ns) / 1e3)
    seen = {rows: us for rows, us in by_rows.items() if len(us) >= _FEWEST_RUNS}
    return LatencyTable.points(_rising(seen)) if seen else None


def _rising(by_rows: Mapping[int, list[float]]) -> dict[int, tuple[float, float]]:
    """Mean and 95th percentile. More rows never take less, or sizes beyond would seem to take nothing."""
    points: dict[int, tuple[float, float]] = {}
    most = 0.0
    for rows, us in sorted(by_rows.items()):
        most = max(most, statistics.fmean(us))
        p95 = statistics.quantiles(us, n=20, method="inclusive")[-1]
        points[rows] = (most, min(max(p95, most), most * _MOST_P95_TO_MEAN))
    return points
