"""What engines have counted, in Prometheus' text format.

Names, units and types follow Prometheus' own rules (base units, ``_total`` on counters):
https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from paddleinfer.engine.engine import Engine

__all__ = ["CONTENT_TYPE", "EngineCollector", "exposition"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""The media type of what exposition() returns."""

_OUTCOMES = {
    "results": "result",
    "errors": "error",
    "cancelled": "cancelled",
    "expired": "expired",
    "shed": "shed",
    "closed": "closed",
    "refused": "refused",
}
_COUNTERS = {
    "rows": ("paddleinfer_rows", "Rows of accepted requests.", 1),
    "executions": ("paddleinfer_executions", "Runs of the model.", 1),
    "executed_rows": ("paddleinfer_executed_rows", "Rows that the model ran.", 1),
    "internal_runs": (
        "paddleinfer_internal_runs",
        "Runs that the engine made for itself, to warm up or to check; no other metric counts them.",
        1,
    ),
    "verified_requests": (
        "paddleinfer_verified_requests",
        "Requests whose rows in a shared run were compared with what they give alone.",
        1,
    ),
    "verification_failures": (
        "paddleinfer_verification_failures",
        "Comparisons that found a difference; from the first on nothing shares a run.",
        1,
    ),
    "cache_hits": ("paddleinfer_cache_hits", "Requests that a kept result answered.", 1),
    "cache_coalesced": (
        "paddleinfer_cache_coalesced",
        "Requests that got the result of an equal one that was under way.",
        1,
    ),
    "cache_misses": ("paddleinfer_cache_misses", "Requests that the cache could not answer.", 1),
    "cache_evictions": (
        "paddleinfer_cache_evictions",
        "Results that the cache dropped to make room for others.",
        1,
    ),
    "offered_work_ns": (
        "paddleinfer_offered_work_seconds",
        "Time that one instance would take for all that came, in the best runs that deadlines allow.",
        1e-9,
    ),
    "queue_ns": (
        "paddleinfer_queue_seconds",
        "Time from arrival to the start of a run, over requests.",
        1e-9,
    ),
    "run_ns": ("paddleinfer_run_seconds", "Time in the model, over its runs.", 1e-9),
    "result_ns": (
        "paddleinfer_request_seconds",
        "Time from arrival to the result, over requests with one.",
        1e-9,
    ),
}
_DURATIONS = {
    "queue_ns_counts": (
        "paddleinfer_queue_duration_seconds",
        "Time from arrival to the start of a run, of each request that ran.",
        "queue_ns",
    ),
    "result_ns_counts": (
        "paddleinfer_request_duration_seconds",
        "Time from arrival to the result, of each request with one.",
        "result_ns",
    ),
}
_GAUGES = {
    "queued_requests": ("paddleinfer_queued_requests", "Requests that wait."),
    "queued_rows": ("paddleinfer_queued_rows", "Rows that wait."),
    "queued_bytes": ("paddleinfer_queued_bytes", "Bytes of input that wait."),
    "running_executions": ("paddleinfer_instances_busy", "Instances that run the model at this moment."),
    "cache_entries": ("paddleinfer_cache_entries", "Results that the cache keeps."),
    "cache_bytes": ("paddleinfer_cache_bytes", "Bytes of the results that the cache keeps, with their keys."),
    "generation": ("paddleinfer_model_generation", "1, and 1 more for each reload."),
}
# Of the last seconds.
_SIGNALS = {
    "predicted_delay_s": (
        "paddleinfer_predicted_delay_seconds",
        "Predicted time until what waits now has run.",
    ),
    "replicas_needed": (
        "paddleinfer_replicas_needed",
        "Replicas that this one's traffic needs to be in time; their sum is how many there should be.",
    ),
    "share_shed": ("paddleinfer_shed_ratio", "Share of the requests that were refused, shed or expired."),
    "utilisation": ("paddleinfer_utilisation_ratio", "Share of the time for which instances were busy."),
}


class EngineCollector(Collector):
    """A collector for prometheus_client: ``REGISTRY.register(EngineCollector({"name": engine}))``."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self._engines = engines

    def collect(self) -> Iterator[Metric]:
        """Yields all metrics; it reads every engine once."""
        stats = {name: engine.stats() for name, engine in self._engines.items()}
        ends = CounterMetricFamily(
            "paddleinfer_requests", "Requests by how they ended.", labels=("model", "outcome")
        )
        for model, counted in stats.items():
            for name, outcome in _OUTCOMES.items():
                ends.add_metric((model, outcome), counted[name])
        yield ends
        for name, (metric, text, unit) in _COUNTERS.items():
            counter = CounterMetricFamily(metric, text, labels=("model",))
            for model, counted in stats.items():
                counter.add_metric((model,), counted[name] * unit)
            yield counter
        for name, (metric, text) in _GAUGES.items():
            gauge = GaugeMetricFamily(metric, text, labels=("model",))
            for model, counted in stats.items():
                gauge.add_metric((model,), counted[name])
            yield gauge
        for name, (metric, text, total_ns) in _DURATIONS.items():
            durations = HistogramMetricFamily(metric, text, labels=("model",))
            for model, counted in stats.items():
                buckets = _duration_buckets(counted[name])
                durations.add_metric((model,), buckets=buckets, sum_value=counted[total_ns] * 1e-9)
            yield durations
        instances = GaugeMetricFamily("paddleinfer_instances", "Instances of the model.", labels=("model",))
        rows = HistogramMetricFamily(
            "paddleinfer_batch_rows", "Rows of a run of the model.", labels=("model",)
        )
        for model, engine in self._engines.items():
            in_force = engine.effective_config()
            instances.add_metric((model,), in_force["instances"]["value"])
            most_rows = max(in_force["max_batch_size"]["value"], *in_force["allowed_batch_sizes"]["value"], 1)
            buckets, total = _histogram(stats[model]["batch_rows"], most_rows)
            rows.add_metric((model,), buckets=buckets, sum_value=total)
        yield instances
        yield rows
        signals = {model: engine.scaling_signals() for model, engine in self._engines.items()}
        for name, (metric, text) in _SIGNALS.items():
            signal = GaugeMetricFamily(metric, text, labels=("model",))
            for model, of_it in signals.items():
                signal.add_metric((model,), getattr(of_it, name))
            yield signal


def _histogram(batch_rows: Mapping[int, int], most_rows: int) -> tuple[list[tuple[str, float]], float]:
    """Returns cumulative counts of runs of up to 1, 2, 4 and so on rows, and the sum of all rows.

    The buckets end with `most_rows`, not with the largest run so far: one added later would lack its past.
    """
    buckets: list[tuple[str, float]] = []
    bound = 1
    while True:
        buckets.append((f"{bound}.0", sum(count for rows, count in batch_rows.items() if rows <= bound)))
        if bound >= most_rows:
            break
        bound *= 2
    buckets.append(("+Inf", sum(batch_rows.values())))
    return buckets, sum(rows * count for rows, count in batch_rows.items())


def _duration_buckets(counts: Mapping[float, int]) -> list[tuple[str, float]]:
    """Turns counts by bounds in nanoseconds into cumulative ones in seconds; the last bound is infinite."""
    bounds = sorted(counts)
    texts = [f"{bound / 1e9}" for bound in bounds[:-1]] + ["+Inf"]
    return list(zip(texts, itertools.accumulate(counts[bound] for bound in bounds), strict=True))


def exposition(engines: Mapping[str, Engine]) -> bytes:
    """Returns all metrics of these named engines as the body of a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(EngineCollector(engines))
    text: Any = generate_latest(registry)
    return bytes(text)
