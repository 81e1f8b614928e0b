"""Where requests spend their time, by stage, and what binds them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from paddleinfer.settings import Settings

if TYPE_CHECKING:
    from paddleinfer.trace import TracedRequest, TracedRun

__all__ = ["GROUPS", "Diagnosis", "Stage", "diagnose"]

GROUPS = {
    "receive": "communication",
    "decode": "communication",
    "submit": "communication",
    "queue": "waiting",
    "hold": "waiting",
    "gather": "computation",
    "run": "computation",
    "scatter": "computation",
    "deliver": "communication",
    "encode": "communication",
    "send": "communication",
}
_VERDICTS = {
    "communication": "communication-bound",
    "waiting": "queue-bound",
    "computation": "computation-bound",
}
# Fewer runs of a size say little about its time.
_FEWEST_RUNS = 3
# A gain below this is within what two measurements of the same thing differ by.
_LEAST_GAIN = 1.1


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
    """Of the time of all requests."""


@dataclass(frozen=True)
class Diagnosis:
    """What binds an engine's requests, with the evidence, and what follows from it."""

    requests: int
    stages: tuple[Stage, ...]
    shares: dict[str, float]
    """Of communication, waiting and computation in the time of all requests."""
    verdict: str
    """"communication-bound", "computation-bound", "queue-bound", or "unknown" where nothing ran."""
    evidence: str
    advice: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{'stage':10} {'group':14} {'count':>8}    mean us     p50 us     p99 us   share"]
        lines += [
            f"{s.stage:10} {s.group:14} {s.count:8} {s.mean_us:10.1f} {s.p50_us:10.1f} {s.p99_us:10.1f}"
            f" {s.share:7.1%}"
            for s in self.stages
        ]
        return "\n".join(
            [*lines, "", f"{self.verdict}: {self.evidence}", *(f"- {line}" for line in self.advice)]
        )


def diagnose(
    requests: Sequence[TracedRequest],
    runs: Sequence[TracedRun],
    outer_us: Mapping[str, Sequence[float]],
    settings: Settings,
    cores: int,
    legacy: bool,
) -> Diagnosis:
    """What the requests with a result, and the runs, say. Warm-ups are no requests of anybody's.

    `outer_us`: of stages around the engine, what each request took, in microseconds.
    """
    warmups = {run.number for run in runs if run.reason == "warmup"}
    served = [r for r in requests if r.outcome == "result" and r.run not in warmups]
    runs = [run for run in runs if run.number not in warmups and not run.failed]
    stages = _table(served, outer_us)
    shares = {group: sum(s.share for s in stages if s.group == group) for group in _VERDICTS}
    if not served:
        return Diagnosis(0, (), shares, "unknown", "no request has had a result yet", ())
    group = max(shares, key=lambda name: shares[name])
    costliest = max((s for s in stages if s.group == group), key=lambda stage: stage.share)
    evidence = (
        f"{shares[group]:.0%} of the time of {len(served)} requests is {group}, "
        f"most of it {costliest.stage} ({costliest.mean_us:.0f} us a request)"
    )
    advice = _advice(group, runs, settings, cores, shares, legacy)
    return Diagnosis(len(served), stages, shares, _VERDICTS[group], evidence, tuple(advice))


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
        for stage, group in GROUPS.items()
        if (times := times_us.get(stage))
    )


def _percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def _advice(
    group: str,
    runs: Sequence[TracedRun],
    settings: Settings,
    cores: int,
    shares: dict[str, float],
    legacy: bool,
) -> list[str]:
    if group == "communication":
        return [
            "send more rows in a request: what a request costs beside its run is paid once for all its rows",
            "call the engine in process, or send binary tensors instead of JSON: what is neither waiting nor "
            f"computation is {shares['communication']:.0%} of the time",
        ]
    advice = [sentence for sentence in (_aggregate(runs), _more_instances(settings, cores)) if sentence]
    if legacy and not settings["ir_optim"].value:
        advice.append("try ir_optim=True: without it a legacy model runs without graph passes and oneDNN")
    if not advice:
        advice.append(
            f"the {cores} processor cores that may be used are the limit; a GPU, or more cores, is next"
        )
    return advice


def _aggregate(runs: Sequence[TracedRun]) -> str:
    """What larger batches would gain, by the runs seen."""
    by_rows: dict[int, list[int]] = defaultdict(list)
    for run in runs:
        by_rows[run.rows].append(run.scattered_ns - run.began_ns)
    # Medians, so that a pause of the whole process is no size's fault.
    usual_ns = {rows: statistics.median(times) for rows, times in by_rows.items()}
    rate = {rows: rows / usual_ns[rows] for rows, times in by_rows.items() if len(times) >= _FEWEST_RUNS}
    if not rate:
        return ""
    now = sum(run.rows for run in runs) / sum(usual_ns[run.rows] for run in runs)
    best = max(rate, key=lambda rows: rate[rows])
    gain = rate[best] / now
    if gain < _LEAST_GAIN:
        return ""
    mean_rows = sum(run.rows for run in runs) / len(runs)
    return (
        f"aggregate: runs have {mean_rows:.1f} rows on average, and those of {best} rows give {gain:.1f} "
        "times the rows per second; more callers at once, or max_queue_delay_us, make them larger"
    )


def _more_instances(settings: Settings, cores: int) -> str:
    instances = settings["instances"].value
    if instances >= cores:
        return ""
    return (
        f"more instances: {instances} of {cores} processor cores run the model; instances={cores} "
        f"gives up to {cores / instances:.1f} times the rows per second"
    )
