"""What a service says of itself: metrics, its verdict."""

from __future__ import annotations

from typing import Any

import pytest
from engine_helpers import engine_of, rows
from prometheus_client.parser import text_string_to_metric_families

from paddleinfer import InvalidInput
from paddleinfer.serve import Service, ServiceLimits
from paddleinfer.serve.diagnosis import diagnose_service
from paddleinfer.serve.metrics import exposition

MS = 1_000_000


def spans(**taken_ms: int) -> list[tuple[str, int, int]]:
    """Stages one after the other."""
    begin, made = 0, []
    for stage, duration in taken_ms.items():
        made.append((stage, begin, begin + duration * MS))
        begin += duration * MS
    return made


def test_metrics_count_ends_and_the_durations_of_stages() -> None:
    def preprocess(request: Any) -> Any:
        if request.value < 0:
            raise InvalidInput("negative")
        return {"x": rows()}

    with engine_of() as engine, Service(engine, preprocess=preprocess) as service:
        for value in (1, 2, -1):
            try:
                service.call(value)
            except InvalidInput:
                continue
        families = {
            family.name: family
            for family in text_string_to_metric_families(exposition({"s": service}).decode())
        }
    ends = {
        sample.labels["outcome"]: sample.value
        for sample in families["paddleinfer_service_requests"].samples
        if sample.name.endswith("_total")
    }
    assert ends["result"] == 2 and ends["invalid"] == 1 and ends["error"] == 0
    stages = families["paddleinfer_service_stage_duration_seconds"].samples
    counts = {one.labels["stage"]: one.value for one in stages if one.name.endswith("_count")}
    assert counts["preprocess"] == counts["infer"] == counts["postprocess"] == 2
    buckets = [
        one.value
        for one in families["paddleinfer_service_request_duration_seconds"].samples
        if one.name.endswith("_bucket")
    ]
    assert buckets == sorted(buckets) and buckets[-1] == 2
    (under_way,) = families["paddleinfer_service_requests_under_way"].samples
    assert under_way.value == 0


@pytest.mark.parametrize(
    ("stages", "verdict", "word"),
    [
        (spans(wait=1, preprocess=5, infer=2, postprocess=1), "function-bound", "preprocess (5000 us"),
        (spans(wait=1, handle=1, infer=9), "engine-bound", "infer (9000 us"),
        (spans(wait=9, preprocess=1, infer=1, postprocess=1), "queue-bound", "wait (9000 us"),
        (spans(decode=9, preprocess=1, infer=1), "communication-bound", "decode (9000 us"),
    ],
)
def test_the_verdict_says_what_takes_the_time(stages: Any, verdict: str, word: str) -> None:
    found = diagnose_service([stages] * 3, ServiceLimits(running=2), ["det"])
    assert found.verdict == verdict and word in found.evidence and found.requests == 3
    assert found.advice and found.advice in str(found)
    assert abs(sum(found.shares.values()) - 1) < 1e-9


def test_without_requests_the_verdict_is_unknown() -> None:
    with Service({}, handle=lambda request, _: None) as service:
        assert service.diagnose().verdict == "unknown"
        service.call(1)
        assert service.diagnose().requests == 1


def test_a_stage_that_is_entered_twice_counts_once_a_request() -> None:
    found = diagnose_service([[*spans(wait=1, infer=1), *spans(wait=3)]], ServiceLimits(), [])
    assert [(one.stage, one.count, one.mean_us) for one in found.stages] == [
        ("wait", 1, 4000.0),
        ("infer", 1, 1000.0),
    ]
