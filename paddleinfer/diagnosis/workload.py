"""Sums up traced requests and runs in the few numbers that advice needs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paddleinfer.diagnosis.run_time_profile import RunTimeProfile

if TYPE_CHECKING:
    from paddleinfer.engine.warmup import WarmedSize
    from paddleinfer.tracing.records import TracedRequest, TracedRun

__all__ = ["WorkloadSummary"]

_MANY_SHAPES = 4
# With more runs of each shape, requests find others to batch with.
_SHARE_OF_RUNS = 0.1


@dataclass(frozen=True)
class WorkloadSummary:
    """The load that callers put on an engine, and how it ran."""

    stage_us: Mapping[str, float]
    """Stage -> its mean microseconds over the requests."""
    rows: float
    """The mean rows of a request."""
    run_rows: float
    """The mean rows of a run."""
    at_once: float
    """The mean number of requests under way, while any were."""
    wall_us: float
    """The time in which any requests were under way, per request."""
    run_us: float
    """The time of instances in runs, per request."""
    instances: int
    busy_instances: float
    """How many instances were running on average, while any were."""
    runs: RunTimeProfile
    run_count: int
    shapes: int
    """How many shapes beyond the rows these runs had."""

    @classmethod
    def of(
        cls,
        requests: Sequence[TracedRequest],
        runs: Sequence[TracedRun],
        stage_us: Mapping[str, float],
        instances: int,
        warmed: Sequence[WarmedSize],
    ) -> WorkloadSummary:
        """Sums up requests, at least one and all with a result, and runs, theirs and others, none failed."""
        # Time counts from the first end on, because requests that ended earlier are unknown.
        begin_ns = min(request.delivered_ns for request in requests)
        ended = [request for request in requests if request.scatter_end_ns > begin_ns]
        if not ended:
            begin_ns, ended = min(request.called_ns for request in requests), list(requests)
        end_ns = max(request.delivered_ns for request in requests)
        spans = [(max(request.called_ns, begin_ns), request.delivered_ns) for request in ended]
        of_these = [run for run in runs if begin_ns < run.scatter_end_ns <= end_ns]
        running = [(max(run.began_ns, begin_ns), run.scatter_end_ns) for run in of_these]
        busy_us = max(_covered_ns(spans), 1) / 1e3
        run_us = _sum_us(running)
        busy_instances = run_us / max(_covered_ns(running) / 1e3, 1e-3)
        return cls(
            stage_us=stage_us,
            rows=statistics.fmean(request.rows for request in requests),
            run_rows=statistics.fmean(run.rows for run in of_these) if of_these else 1.0,
            at_once=_sum_us(spans) / busy_us,
            wall_us=busy_us / len(ended),
            run_us=run_us / len(ended),
            instances=instances,
            busy_instances=busy_instances,
            runs=RunTimeProfile(of_these, busy_instances, warmed, instances),
            run_count=len(of_these),
            shapes=len({run.bucket for run in of_these}),
        )

    @property
    def shapes_differ(self) -> bool:
        """Whether the runs have so many shapes that rows are kept apart."""
        return self.shapes >= _MANY_SHAPES and self.shapes >= _SHARE_OF_RUNS * self.run_count

    @property
    def request_us(self) -> float:
        """The mean time of a request, through all stages."""
        return sum(self.stage_us.values())

    @property
    def queue_us(self) -> float:
        """The mean time of a request in the queue, held back or not."""
        return self.stage_us.get("queue", 0.0) + self.stage_us.get("hold", 0.0)

    @property
    def rows_per_s(self) -> float:
        """The rate while any requests were under way."""
        return self.rows / self.wall_us * 1e6

    @property
    def caller_rows_per_s(self) -> float:
        """The rate of a caller who asks again as soon as it has its answer."""
        return self.rows / max(self.request_us, 1e-3) * 1e6

    def figures(self) -> dict[str, float]:
        """The figures that advice refers to, by name."""
        names = ("request_us", "queue_us", "rows_per_s", "caller_rows_per_s")
        return {name: getattr(self, name) for name in names}

    @property
    def spread(self) -> float:
        """How many instances such callers can keep busy; a request in parts keeps several busy."""
        return min(self.instances, max(1.0, self.at_once, self.busy_instances))

    @property
    def idle_us(self) -> float:
        """The time per request in which requests were under way and instances that could run them did not."""
        return max(0.0, self.wall_us - self.run_us / self.spread)


def _sum_us(spans: Iterable[tuple[int, int]]) -> float:
    return sum(end - begin for begin, end in spans) / 1e3


def _covered_ns(spans: Iterable[tuple[int, int]]) -> int:
    """Returns the time that the spans cover together."""
    covered, until = 0, 0
    for begin, end in sorted(spans):
        covered += max(0, end - max(begin, until))
        until = max(until, end)
    return covered
