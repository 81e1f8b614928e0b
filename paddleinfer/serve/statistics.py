"""What a service has counted."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from paddleinfer.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineClosed,
    InvalidInput,
    QueueFull,
)
from paddleinfer.stages import Stage

__all__ = ["BOUNDS_S", "OUTCOMES", "ServiceStatistics", "outcome_of"]

OUTCOMES: Final = ("result", "error", "invalid", "refused", "expired", "cancelled", "closed")
"""How a request may end: with its answer; an error of the service or its engines; one of the client's; too
much waited; its deadline passed; nobody waited for it; the service or an engine was closed."""

BOUNDS_S: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Upper bounds of the buckets of durations, in seconds; a last one has no bound."""
_BOUNDS_NS: Final = [int(bound * 1e9) for bound in BOUNDS_S]
_KEPT: Final = 4096

_OUTCOME_OF: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (InvalidInput, "invalid"),
    (QueueFull, "refused"),
    (DeadlineExceeded, "expired"),
    (Cancelled, "cancelled"),
    (EngineClosed, "closed"),
    (Exception, "error"),
)


def outcome_of(error: BaseException | None) -> str:
    """One of OUTCOMES; what is no Exception ends a task, or the thread of a caller."""
    if error is None:
        return "result"
    return next((outcome for kind, outcome in _OUTCOME_OF if isinstance(error, kind)), "cancelled")


class _Durations:
    """Of one stage."""

    __slots__ = ("buckets", "count", "total_ns")

    def __init__(self) -> None:
        self.count = 0
        self.total_ns = 0
        self.buckets = [0] * (len(_BOUNDS_NS) + 1)

    def add(self, duration_ns: int) -> None:
        self.count += 1
        self.total_ns += duration_ns
        self.buckets[bisect_left(_BOUNDS_NS, duration_ns)] += 1

    def as_dict(self) -> dict[str, Any]:
        return {"count": self.count, "total_ns": self.total_ns, "buckets": list(self.buckets)}


class ServiceStatistics:
    """Requests by how they ended, the durations of their stages, and the last of them; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._outcomes = dict.fromkeys(OUTCOMES, 0)
        self._stages: dict[str, _Durations] = {}
        self._requests = _Durations()
        self._recent: deque[tuple[Stage, ...]] = deque(maxlen=_KEPT)

    def refuse(self) -> None:
        """Counts a request that was not begun."""
        with self._lock:
            self._outcomes["refused"] += 1

    def add(self, outcome: str, arrived_ns: int, ended_ns: int, stages: Sequence[Stage]) -> None:
        """Counts a request that is over."""
        with self._lock:
            self._outcomes[outcome] += 1
            if outcome != "result":
                return
            self._requests.add(ended_ns - arrived_ns)
            for stage, begin_ns, end_ns in stages:
                durations = self._stages.get(stage)
                if durations is None:
                    durations = self._stages[stage] = _Durations()
                durations.add(end_ns - begin_ns)
            if stages:
                self._recent.append(tuple(stages))

    def mean_s(self) -> float:
        """Of the requests with an answer, from their arrival to it; 0 before there are any."""
        with self._lock:
            return self._requests.total_ns / max(1, self._requests.count) / 1e9

    def recent(self) -> list[tuple[Stage, ...]]:
        """The stages of each of the last requests with an answer."""
        with self._lock:
            return list(self._recent)

    def as_dict(self) -> dict[str, Any]:
        """Counts by outcome, and the durations of requests with an answer and of their stages."""
        with self._lock:
            return {
                "outcomes": dict(self._outcomes),
                "request": self._requests.as_dict(),
                "stages": {stage: durations.as_dict() for stage, durations in self._stages.items()},
            }
