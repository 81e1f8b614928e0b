"""Finds where requests spend their time, by stage, and what binds them."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from paddleinfer.diagnosis.advice import Advice, AdviceContext, advise
from paddleinfer.diagnosis.workload import WorkloadSummary
from paddleinfer.resolved_options import ResolvedOptions
from paddleinfer.stages import STAGES

if TYPE_CHECKING:
    from paddleinfer.engine.warmup import WarmedSize
    from paddleinfer.tracing.records import TracedRequest, TracedRun

__all__ = ["MANY", "Diagnosis", "Stage", "diagnose"]

_VERDICTS = {
    "communication": "communication-bound",
    "waiting": "queue-bound",
    "computation": "computation-bound",
}
MANY = 0.01
"""The share of requests without a result from which on the verdict mentions them."""


@dataclass(frozen=True)
class Stage:
    """One stage over all requests that went through it, in microseconds."""

    stage: str
    group: str
    """"communication", "waiting" or "computation"."""
    count: int
    mean_us: float
    p50_us: float
    p99_us: float
    share: float
    """The share of the time of all requests."""


@dataclass(frozen=True)
class Diagnosis:
    """What binds an engine's requests, with the evidence and the advice that follows."""

    requests: int
    stages: tuple[Stage, ...]
    shares: dict[str, float]
    """The shares of communication, waiting and computation in the time of all requests."""
    verdict: str
    """"communication-bound", "computation-bound", "queue-bound", or "unknown" where nothing ran."""
    evidence: str
    figures: dict[str, float]
    """``request_us`` and ``queue_us`` are the mean time of a request, in all and in the queue. ``rows_per_s``
    is the rate while any request is under way, ``caller_rows_per_s`` that of a caller who asks again at
    once."""
    advice: tuple[Advice, ...]
    """What would change these figures and by how much, in the order in which to follow it."""

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        verdict = f"{self.verdict}: {self.evidence}"
        if not self.stages:
            return verdict
        lines = [f"{'stage':10} {'group':14} {'count':>8}    mean us     p50 us     p99 us   share"]
        lines += [
            f"{s.stage:10} {s.group:14} {s.count:8} {s.mean_us:10.1f} {s.p50_us:10.1f} {s.p99_us:10.1f}"
            f" {s.share:7.1%}"
            for s in self.stages
        ]
        lines += ["", verdict, *(f"- {one.sentence}" for one in self.advice)]
        return "\n".join(lines)


def diagnose(
    requests: Sequence[TracedRequest],
    runs: Sequence[TracedRun],
    outer_us: Mapping[str, Sequence[float]],
    resolved: ResolvedOptions,
    cores: int,
    legacy: bool,
    binary_us: Mapping[str, float],
    warmed: Sequence[WarmedSize],
) -> Diagnosis:
    """Diagnoses the requests with a result, and the runs.

    `outer_us` has the microseconds of each request in stages outside the engine; `binary_us` what these would
    take on average with binary tensors; `warmed` the run times of the warm-up.
    """
    served = [request for request in requests if request.outcome == "result"]
    runs = [run for run in runs if not run.failed]
    stages = _table(served, outer_us)
    shares = {group: sum(s.share for s in stages if s.group == group) for group in _VERDICTS}
    if not served:
        return Diagnosis(0, (), shares, "unknown", _nothing_served(requests), {}, ())
    group = max(shares, key=lambda name: shares[name])
    costliest = max((s for s in stages if s.group == group), key=lambda stage: stage.share)
    evidence = (
        f"{shares[group]:.0%} of the time of {_counted(len(served))} is {group}, "
        f"most of it {costliest.stage} ({costliest.mean_us:.0f} us a request)"
    )
    if len(requests) - len(served) >= MANY * len(requests):
        evidence += f"; of {_counted(len(requests))} recorded these had no result: {_failures(requests)}"
    load = WorkloadSummary.of(served, runs, {s.stage: s.mean_us for s in stages}, resolved.instances, warmed)
    if load.shapes_differ:
        evidence += f"; {load.run_count} runs had {load.shapes} shapes beyond the rows"
    advice = advise(group, AdviceContext(load, shares, resolved, cores, legacy, binary_us))
    return Diagnosis(len(served), stages, shares, _VERDICTS[group], evidence, load.figures(), advice)


def _nothing_served(requests: Sequence[TracedRequest]) -> str:
    if not requests:
        return "no request has had a result yet"
    return f"of {_counted(len(requests))} recorded none had a result: {_failures(requests)}"


def _failures(requests: Sequence[TracedRequest]) -> str:
    """Counts requests by their other outcomes, most first: "40 expired, 3 shed"."""
    outcomes = Counter(request.outcome for request in requests if request.outcome != "result")
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())


def _counted(requests: int) -> str:
    return "1 request" if requests == 1 else f"{requests} requests"


def _table(requests: Sequence[TracedRequest], outer_us: Mapping[str, Sequence[float]]) -> tuple[Stage, ...]:
    times_us: dict[str, list[float]] = defaultdict(list)
    times_us.update((stage, list(times)) for stage, times in outer_us.items())
    for request in requests:
        for stage, begin, end in request.stages():
            times_us[stage].append((end - begin) / 1e3)
    total = sum(map(sum, times_us.values())) or 1.0
    return tuple(
        Stage(
            stage,
            group,
            len(times),
            statistics.fmean(times),
            _percentile(times, 0.5),
            _percentile(times, 0.99),
            sum(times) / total,
        )
        for stage, (group, _) in STAGES.items()
        if group and (times := times_us.get(stage))
    )


def _percentile(values: Sequence[float], share: float) -> float:
    """Returns a percentile by the nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]
