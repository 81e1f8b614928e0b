"""What the server's models take in memory, and how often they are loaded on demand, in Prometheus' format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from .model_room import ModelRoom

__all__ = ["exposition"]


class _RoomCollector(Collector):
    def __init__(self, room: ModelRoom) -> None:
        self._room = room

    def collect(self) -> Iterator[Metric]:
        budget = self._room.budget
        yield GaugeMetricFamily(
            "paddleinfer_max_loaded_bytes", "What the models may take together.", value=budget.limit_bytes
        )
        loaded = GaugeMetricFamily(
            "paddleinfer_loaded_bytes", "What the weights of a loaded model take.", labels=("model",)
        )
        for model in budget:
            loaded.add_metric((model.label,), budget.size(model))
        yield loaded
        for name, text, counts in (
            ("loads_on_demand", "Loads of a model because a request asked for it.", self._room.loads),
            ("unloads_for_room", "Unloads of a model to make room for another one.", self._room.unloads),
        ):
            counter = CounterMetricFamily(f"paddleinfer_{name}", text, labels=("model",))
            for label, count in counts.items():
                counter.add_metric((label,), count)
            yield counter


def exposition(room: ModelRoom) -> bytes:
    """Returns the metrics of a server's room as a part of the body of a scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_RoomCollector(room))
    text: Any = generate_latest(registry)
    return bytes(text)
