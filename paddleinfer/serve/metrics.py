"""What services have counted, in Prometheus' text format."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from paddleinfer.serve.service import Service
from paddleinfer.serve.statistics import BOUNDS_S

__all__ = ["ServiceCollector", "exposition"]


class ServiceCollector(Collector):
    """For any prometheus_client registry: ``REGISTRY.register(ServiceCollector({"name": service}))``."""

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        """Reads every service once."""
        counted = {name: service.stats() for name, service in self._services.items()}
        ends = CounterMetricFamily(
            "paddleinfer_service_requests",
            "Requests of a service by how they ended.",
            labels=("service", "outcome"),
        )
        durations = HistogramMetricFamily(
            "paddleinfer_service_request_duration_seconds",
            "Time from a request's arrival to its answer.",
            labels=("service",),
        )
        stages = HistogramMetricFamily(
            "paddleinfer_service_stage_duration_seconds",
            "Time of a request with an answer in one stage: wait for a turn, decode, preprocess, infer, "
            "postprocess, handle, encode.",
            labels=("service", "stage"),
        )
        under_way = GaugeMetricFamily(
            "paddleinfer_service_requests_under_way",
            "Requests that run and wait.",
            labels=("service",),
        )
        for name, stats in counted.items():
            for outcome, count in stats["outcomes"].items():
                ends.add_metric((name, outcome), count)
            durations.add_metric((name,), **_histogram(stats["request"]))
            for stage, taken in stats["stages"].items():
                stages.add_metric((name, stage), **_histogram(taken))
            under_way.add_metric((name,), self._services[name].calls.under_way)
        yield from (ends, durations, stages, under_way)


def _histogram(durations: Mapping[str, Any]) -> dict[str, Any]:
    counts: Sequence[int] = durations["buckets"]
    bounds = [*map(str, BOUNDS_S), "+Inf"]
    return {
        "buckets": list(zip(bounds, itertools.accumulate(counts), strict=True)),
        "sum_value": durations["total_ns"] * 1e-9,
    }


def exposition(services: Mapping[str, Service]) -> bytes:
    """All metrics of these services, by name, as the body of a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServiceCollector(services))
    text: Any = generate_latest(registry)
    return bytes(text)
