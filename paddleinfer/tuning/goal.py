"""Says what makes one setting better than another, and which limits it must keep."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from paddleinfer.config import check_choice, is_int
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown
from paddleinfer.tuning.samples import Sample

__all__ = ["GOALS", "Goal", "GoalName"]

GoalName = Literal["throughput", "latency", "memory"]
GOALS = ("throughput", "latency", "memory")

# With the goal of least memory, what a setting must keep of the throughput that the defaults have.
_KEPT_THROUGHPUT = 0.95


@dataclass(frozen=True)
class Goal:
    """What is wanted of a setting.

    Raises
    ------
    ConfigError
        A field is out of range.
    """

    name: GoalName = "throughput"
    """"throughput" is the most rows a second, "latency" the least median latency, "memory" the least memory
    that keeps 95 % of the throughput of the defaults."""
    p99_ms: float | None = None
    """The most that the 99th percentile of the latency may be, in milliseconds; None: anything."""
    memory_limit_bytes: int | None = None
    """The most resident memory that the process may have, in bytes; None: any."""

    def __post_init__(self) -> None:
        check_choice("goal", self.name, GOALS)
        p99_ms, limit = self.p99_ms, self.memory_limit_bytes
        if p99_ms is not None and (
            isinstance(p99_ms, bool) or not isinstance(p99_ms, (int, float)) or not 0 < p99_ms < 1e9
        ):
            raise ConfigError(f"p99_ms must be a number of milliseconds above 0, not {shown(p99_ms)}")
        if limit is not None and (not is_int(limit) or limit < 1):
            raise ConfigError(f"memory_limit_bytes must be an integer from 1 up, not {shown(limit)}")

    def score(self, sample: Sample) -> float:
        """Returns a number that is larger for what is better, in proportion."""
        if self.name == "latency":
            return 1e3 / sample.p50_ms if sample.p50_ms > 0 else 0.0
        if self.name == "memory":
            return 1e9 / sample.memory_bytes if sample.memory_bytes > 0 else 0.0
        return sample.rows_per_s

    def misses(self, samples: Sequence[Sample], defaults: Sequence[Sample]) -> str:
        """Says which limit these samples do not keep, by their medians; empty if they keep all.

        Parameters
        ----------
        samples
            One setting's.
        defaults
            Those of the defaults in the same rounds.
        """
        p99_ms = statistics.median(sample.p99_ms for sample in samples)
        if self.p99_ms is not None and p99_ms > self.p99_ms:
            return f"its p99 is {p99_ms:.3g} ms, and {self.p99_ms:g} is the limit"
        memory_bytes = max(sample.memory_bytes for sample in samples)
        if self.memory_limit_bytes is not None and memory_bytes > self.memory_limit_bytes:
            return f"it takes {memory_bytes} bytes, and {self.memory_limit_bytes} is the limit"
        if self.name == "memory":
            own = statistics.median(sample.rows_per_s for sample in samples)
            usual = statistics.median(sample.rows_per_s for sample in defaults)
            if own < _KEPT_THROUGHPUT * usual:
                return f"it answers {own:,.0f} rows a second, and the defaults {usual:,.0f}"
        return ""
