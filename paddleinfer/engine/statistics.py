"""Adds up what all generations of an engine have counted."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from paddleinfer import _ext

__all__ = ["OUTCOMES", "StatisticsAggregator"]

OUTCOMES = ("results", "errors", "cancelled", "expired", "shed", "closed")
"""The counters of ``stats()`` that add up to its ``requests``: one for each way an accepted request ends."""

_NOW = (
    "queued_requests",
    "queued_rows",
    "queued_bytes",
    "predicted_drain_ns",
    "requests_waiting_for_room",
    "running_executions",
    "cache_entries",
    "cache_bytes",
)


class StatisticsAggregator:
    """Sums of counters that never fall, and what is queued and running now."""

    def __init__(self) -> None:
        # The lock is reentrant, because a signal handler may read what its thread is reading.
        self._lock = threading.RLock()
        self._cores: list[_ext.Core] = []
        self._closed: list[_ext.Core] = []
        self._past: dict[str, Any] = {}

    def add(self, core: _ext.Core) -> None:
        """Includes the counters of `core` from now on."""
        with self._lock:
            self._cores.append(core)

    def retire(self, core: _ext.Core) -> None:
        """Takes over the sums of a closed `core`, and drops it once it has counted all outcomes."""
        with self._lock:
            self._cores.remove(core)
            self._closed.append(core)
            self._settle()

    def stats(self) -> dict[str, Any]:
        """See ``Engine.stats``."""
        with self._lock:
            self._settle()
            return _sum([self._past, *(core.stats() for core in (*self._closed, *self._cores))])

    def _settle(self) -> None:
        # A caller gets the outcome before it is counted, and close() does not wait for the counting.
        for core in list(self._closed):
            stats = core.stats()
            if stats["requests"] == sum(stats[outcome] for outcome in OUTCOMES):
                counted = {name: value for name, value in stats.items() if name not in _NOW}
                self._past = _sum([self._past, counted])
                self._closed.remove(core)


def _sum(parts: Iterable[Mapping[Any, Any]]) -> dict[Any, Any]:
    total: dict[Any, Any] = {}
    for part in parts:
        for name, value in part.items():
            if isinstance(value, dict):
                total[name] = _sum([total.get(name, {}), value])
            else:
                total[name] = total.get(name, 0) + value
    return total
