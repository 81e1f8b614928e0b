"""What measuring a setting gives: figures of one round, or the reason why there are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Fell", "Outcome", "Sample"]

Outcome = Literal["measured", "crashed", "refused", "differs", "too slow", "not measured"]
"""What became of a setting."""


@dataclass(frozen=True)
class Sample:
    """The figures of one round of one setting."""

    rows_per_s: float
    """Rows that were answered, a second."""
    p50_ms: float
    """The median latency of a request, in milliseconds."""
    p99_ms: float
    """The latency that one request in a hundred exceeds."""
    memory_bytes: int
    """The resident memory of the process, at the end of the round."""
    lost: int = 0
    """Requests that were refused or late."""


class Fell(Exception):
    """A setting cannot be measured."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
