"""Prometheus' metrics are complete and well formed, and equal the engines' counts."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from engine_helpers import PATIENCE_S, gated, rows
from engine_helpers import engine_of as unchecked_engine_of
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from system_tools import need

import paddleinfer
from paddleinfer.metrics import CONTENT_TYPE, EngineCollector, exposition

COUNTERS = {
    "paddleinfer_requests",
    "paddleinfer_rows",
    "paddleinfer_executions",
    "paddleinfer_executed_rows",
    "paddleinfer_internal_runs",
    "paddleinfer_verified_requests",
    "paddleinfer_verification_failures",
    "paddleinfer_cache_hits",
    "paddleinfer_cache_coalesced",
    "paddleinfer_cache_misses",
    "paddleinfer_cache_evictions",
    "paddleinfer_offered_work_seconds",
    "paddleinfer_queue_seconds",
    "paddleinfer_run_seconds",
    "paddleinfer_request_seconds",
}
GAUGES = {
    "paddleinfer_queued_requests",
    "paddleinfer_queued_rows",
    "paddleinfer_queued_bytes",
    "paddleinfer_instances_busy",
    "paddleinfer_model_generation",
    "paddleinfer_cache_entries",
    "paddleinfer_cache_bytes",
    "paddleinfer_instances",
    "paddleinfer_replicas_needed",
    "paddleinfer_predicted_delay_seconds",
    "paddleinfer_shed_ratio",
    "paddleinfer_utilisation_ratio",
}
DURATIONS = {
    "paddleinfer_queue_duration_seconds": ("queue_ns_counts", "queue_ns"),
    "paddleinfer_request_duration_seconds": ("result_ns_counts", "result_ns"),
}
HISTOGRAMS = {"paddleinfer_batch_rows", *DURATIONS}
TYPES = {
    **{f"{name}_total": "counter" for name in COUNTERS},
    **dict.fromkeys(GAUGES, "gauge"),
    **dict.fromkeys(HISTOGRAMS, "histogram"),
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def engine_of(**options: Any) -> paddleinfer.Engine:
    def refuses_negative(inputs: dict[str, Any]) -> dict[str, Any]:
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        return {"y": inputs["x"]}

    return unchecked_engine_of(refuses_negative, batchable=True, **options)


@pytest.fixture
def engine() -> Iterator[paddleinfer.Engine]:
    """One that has run batches of 1 to 5 rows, and failed, refused and cancelled."""
    with engine_of(max_batch_size=8) as engine:
        for count in (1, 1, 2, 5):
            engine.infer({"x": rows(count)})
        with pytest.raises(paddleinfer.ModelError):
            engine.infer({"x": rows(value=-1)})
        yield engine


def samples_of(engines: Mapping[str, paddleinfer.Engine]) -> Samples:
    """Name and labels of each sample -> its value."""
    found: Samples = {}
    for family in text_string_to_metric_families(exposition(engines).decode()):
        for sample in family.samples:
            place = (sample.name, frozenset(sample.labels.items()))
            assert place not in found
            found[place] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_every_metric_is_there_with_its_help_and_type(engine: paddleinfer.Engine) -> None:
    lines = exposition({"m": engine}).decode().splitlines()
    types = dict(line.split()[2:] for line in lines if line.startswith("# TYPE "))
    helps = dict(line[len("# HELP ") :].split(" ", 1) for line in lines if line.startswith("# HELP "))
    assert types == TYPES, "COUNTERS, GAUGES, DURATIONS and HISTOGRAMS of this file say what there is"
    assert helps.keys() == types.keys()
    assert all(text.strip().endswith(".") for text in helps.values())
    sampled = {line.partition("{")[0] for line in lines if not line.startswith("#")}
    histograms = {f"{name}_{end}" for name in HISTOGRAMS for end in ("bucket", "count", "sum")}
    assert sampled == (TYPES.keys() - HISTOGRAMS) | histograms


def test_counters_end_in_total_and_nothing_else_does(engine: paddleinfer.Engine) -> None:
    families = list(text_string_to_metric_families(exposition({"m": engine}).decode()))
    for family in families:
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name


def test_the_values_are_those_of_stats(engine: paddleinfer.Engine) -> None:
    stats = engine.stats()
    samples = samples_of({"m": engine})
    outcomes = {
        dict(labels)["outcome"]: number
        for (name, labels), number in samples.items()
        if name == "paddleinfer_requests_total"
    }
    assert outcomes == {
        "result": stats["results"],
        "error": stats["errors"],
        **{name: stats[name] for name in ("cancelled", "expired", "shed", "closed", "refused")},
    }
    assert (stats["results"], stats["errors"]) == (4, 1)
    for metric, key in (
        ("paddleinfer_rows_total", "rows"),
        ("paddleinfer_executions_total", "executions"),
        ("paddleinfer_executed_rows_total", "executed_rows"),
        ("paddleinfer_model_generation", "generation"),
        ("paddleinfer_queued_requests", "queued_requests"),
        ("paddleinfer_instances_busy", "running_executions"),
    ):
        assert value(samples, metric, model="m") == stats[key], metric
    for metric, key in (
        ("paddleinfer_queue_seconds_total", "queue_ns"),
        ("paddleinfer_run_seconds_total", "run_ns"),
        ("paddleinfer_request_seconds_total", "result_ns"),
    ):
        assert value(samples, metric, model="m") == pytest.approx(stats[key] / 1e9), metric
        assert stats[key] > 0
    assert value(samples, "paddleinfer_instances", model="m") == 1


def test_what_waits_and_what_runs_is_shown() -> None:
    with gated() as (engine, _):
        futures = [engine.submit({"x": rows(count)}) for count in (1, 2)]
        samples = samples_of({"m": engine})
        assert value(samples, "paddleinfer_queued_requests", model="m") == 2
        assert value(samples, "paddleinfer_queued_rows", model="m") == 3
        assert value(samples, "paddleinfer_queued_bytes", model="m") == 3 * 3 * 4
        assert value(samples, "paddleinfer_instances_busy", model="m") == 1
        assert not any(future.done() for future in futures)


def buckets_of(samples: Samples, histogram: str = "paddleinfer_batch_rows") -> dict[str, float]:
    return {
        dict(labels)["le"]: number
        for (name, labels), number in samples.items()
        if name == f"{histogram}_bucket"
    }


def test_the_histogram_is_cumulative_and_counts_every_run(engine: paddleinfer.Engine) -> None:
    stats = engine.stats()
    samples = samples_of({"m": engine})
    counts = list(buckets_of(samples).values())
    assert counts == sorted(counts)
    for bound, count in buckets_of(samples).items():
        assert count == sum(runs for size, runs in stats["batch_rows"].items() if size <= float(bound)), bound
    assert value(samples, "paddleinfer_batch_rows_count", model="m") == stats["executions"] == counts[-1]
    assert value(samples, "paddleinfer_batch_rows_sum", model="m") == stats["executed_rows"]


@pytest.mark.parametrize("most, last", [(1, 1), (8, 8), (33, 64)])
def test_the_buckets_are_the_same_before_and_after_the_first_run(most: int, last: int) -> None:
    with engine_of(max_batch_size=most) as engine:
        before = buckets_of(samples_of({"m": engine}))
        engine.infer({"x": rows(most)})
        after = buckets_of(samples_of({"m": engine}))
    assert list(before) == list(after)
    assert [float(bound) for bound in before][-2:-1] == [last]
    assert after["+Inf"] == after[f"{last}.0"] > 0


@pytest.mark.parametrize("metric", DURATIONS)
def test_durations_are_histograms_of_what_is_summed(engine: paddleinfer.Engine, metric: str) -> None:
    stats = engine.stats()
    counts, total_ns = (stats[name] for name in DURATIONS[metric])
    samples = samples_of({"m": engine})
    buckets = buckets_of(samples, metric)
    for bound, count in buckets.items():
        assert count == sum(n for upper, n in counts.items() if upper <= float(bound) * 1e9 * 1.001), bound
    assert value(samples, f"{metric}_sum", model="m") == pytest.approx(total_ns / 1e9)
    started = stats["results"] + (stats["errors"] if "queue" in metric else 0)
    assert value(samples, f"{metric}_count", model="m") == buckets["+Inf"] == started
    bounds_s = [float(bound) for bound in buckets]
    assert bounds_s == sorted(bounds_s)
    assert (bounds_s[0], bounds_s[-2]) == (0.0001, 60.0)


def test_what_the_engine_runs_for_itself_is_in_no_histogram() -> None:
    with engine_of(max_batch_size=2) as engine:
        engine.warmup({"x": rows()})
        samples = samples_of({"m": engine})
    for name in HISTOGRAMS:
        assert value(samples, f"{name}_count", model="m") == value(samples, f"{name}_sum", model="m") == 0


def test_a_request_that_took_long_is_in_a_bucket_of_long_ones() -> None:
    with gated() as (engine, gate):
        future = engine.submit({"x": rows()})
        time.sleep(0.02)
        gate.open()
        future.result(PATIENCE_S)
        stats = engine.stats()
    for name in ("queue_ns_counts", "result_ns_counts"):
        assert sum(count for bound, count in stats[name].items() if bound > 10_000_000) >= 1, name


def test_every_model_has_its_own_samples(engine: paddleinfer.Engine) -> None:
    with engine_of() as other:
        samples = samples_of({"a": engine, "b": other})
    assert value(samples, "paddleinfer_requests_total", model="a", outcome="result") == 4
    assert value(samples, "paddleinfer_requests_total", model="b", outcome="result") == 0
    names = [{name for name, labels in samples if ("model", model) in labels} for model in ("a", "b")]
    assert names[0] == names[1]


def test_a_closed_engine_keeps_its_numbers(engine: paddleinfer.Engine) -> None:
    before = samples_of({"m": engine})
    engine.close()
    after = samples_of({"m": engine})
    name = "paddleinfer_executions_total"
    assert value(after, name, model="m") == value(before, name, model="m") > 0


def test_engines_can_be_registered_with_a_registry_of_the_users(engine: paddleinfer.Engine) -> None:
    registry = CollectorRegistry()
    registry.register(EngineCollector({"m": engine}))
    assert generate_latest(registry) == exposition({"m": engine})
    assert registry.get_sample_value("paddleinfer_executions_total", {"model": "m"}) == 5
    assert CONTENT_TYPE.startswith("text/plain; version=")


@pytest.mark.system
def test_promtool_has_nothing_to_say(engine: paddleinfer.Engine) -> None:
    promtool = need("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=exposition({"m": engine}), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
