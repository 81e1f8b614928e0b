"""Counts what became of the requests of a load."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["TICK_S", "Tally", "Tick", "no_tick"]

Tick = Callable[[float, int], object]
"""A function that is told at intervals how many seconds have passed and how many answers there are."""

# How often a load tells how far it is, and checks for Ctrl-C.
TICK_S = 0.05


@dataclass
class Tally:
    """What became of the requests of a load, or of one caller."""

    began_s: float = field(default_factory=time.perf_counter)
    sent: int = 0
    ended_s: list[float] = field(default_factory=list)
    """For each result, the seconds from the start of the load."""
    latencies_ms: list[float] = field(default_factory=list)
    """For each result, the milliseconds since its request was due to be sent."""
    refused: int = 0
    late: int = 0
    most_lag_ms: float = 0.0
    """The most that the sender of arrivals at a rate fell behind."""

    @property
    def seconds(self) -> float:
        """Seconds from the start of the load to its last result."""
        return max(self.ended_s, default=0.0)

    def note_result(self, due_s: float, now_s: float) -> None:
        """Counts one result, of a request that was due at that time."""
        self.ended_s.append(now_s - self.began_s)
        self.latencies_ms.append((now_s - due_s) * 1e3)

    def add(self, other: Tally) -> None:
        """Adds the counts of one more caller."""
        self.sent += other.sent
        self.ended_s += other.ended_s
        self.latencies_ms += other.latencies_ms
        self.refused += other.refused
        self.late += other.late


def no_tick(seconds: float, answers: int) -> None:
    """Ignores how far a load is."""
