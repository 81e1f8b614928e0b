"""Where the requests of a service spend their time, and what binds them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from paddleinfer.diagnosis.diagnosis import Stage
from paddleinfer.serve.limits import ServiceLimits
from paddleinfer.stages import Stage as Span

__all__ = ["ServiceDiagnosis", "diagnose_service"]

_GROUPS: Final = {
    "wait": "waiting",
    "decode": "communication",
    "preprocess": "functions",
    "handle": "functions",
    "infer": "engines",
    "postprocess": "functions",
    "encode": "communication",
}
_VERDICTS: Final = {
    "functions": "function-bound",
    "engines": "engine-bound",
    "waiting": "queue-bound",
    "communication": "communication-bound",
}


@dataclass(frozen=True)
class ServiceDiagnosis:
    """What binds a service's requests, with the evidence, and what would help."""

    requests: int
    stages: tuple[Stage, ...]
    shares: dict[str, float]
    """Of waiting for a turn, of functions, of engines and of communication in the time of all requests."""
    verdict: str
    """"function-bound", "engine-bound", "queue-bound", "communication-bound", or "unknown" where there was no
    request."""
    evidence: str
    advice: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{one.stage:12} {one.group:14} {one.mean_us:10.1f} us {one.p99_us:10.1f} us {one.share:6.1%}"
            for one in self.stages
        ]
        return "\n".join([*lines, f"{self.verdict}: {self.evidence}", self.advice]).strip()


def diagnose_service(
    requests: Sequence[Sequence[Span]], limits: ServiceLimits, engines: Sequence[str]
) -> ServiceDiagnosis:
    """What the stages of the last requests say. A stage that a request entered several times counts once."""
    times_us: dict[str, list[float]] = defaultdict(list)
    for spans in requests:
        of_request: dict[str, float] = defaultdict(float)
        for stage, begin_ns, end_ns in spans:
            of_request[stage] += (end_ns - begin_ns) / 1e3
        for stage, taken in of_request.items():
            times_us[stage].append(taken)
    total = sum(map(sum, times_us.values())) or 1.0
    stages = tuple(
        _stage(stage, group, times_us[stage], total)
        for stage, group in _GROUPS.items()
        if times_us.get(stage)
    )
    shares = {group: sum(one.share for one in stages if one.group == group) for group in _VERDICTS}
    if not requests:
        return ServiceDiagnosis(0, (), shares, "unknown", "no request has had an answer yet", "")
    group = max(shares, key=lambda name: shares[name])
    costliest = max((one for one in stages if one.group == group), key=lambda one: one.share)
    evidence = (
        f"{shares[group]:.0%} of the time of {len(requests)} requests is {group}, "
        f"most of it {costliest.stage} ({costliest.mean_us:.0f} us a request)"
    )
    return ServiceDiagnosis(
        len(requests), stages, shares, _VERDICTS[group], evidence, _advice(group, costliest, limits, engines)
    )


def _advice(group: str, costliest: Stage, limits: ServiceLimits, engines: Sequence[str]) -> str:
    others: Mapping[str, str] = {
        "functions": f"make {costliest.stage} cheaper: it has the interpreter to itself except inside NumPy, "
        "Pillow and the like",
        "engines": f"ask what binds the engines: engine.diagnose() of {', '.join(engines) or 'each'}",
        "waiting": f"{limits.running} functions run at once (limits.running): more of them help where they "
        "wait for something else than the interpreter, and cheaper ones help always",
        "communication": "send less: binary bodies in the place of JSON, smaller pictures",
    }
    return others[group]


def _stage(stage: str, group: str, times: Sequence[float], total: float) -> Stage:
    ranked = sorted(times)
    last = len(ranked) - 1
    return Stage(
        stage,
        group,
        len(ranked),
        statistics.fmean(ranked),
        ranked[min(last, len(ranked) // 2)],
        ranked[min(last, int(0.99 * len(ranked)))],
        sum(ranked) / total,
    )
