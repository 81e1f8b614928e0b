"""Decides how many replicas there are to be, by what was measured of them: as Kubernetes' autoscalers do."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

from paddleinfer.engine.scaling import replicas_needed
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["METRICS", "MOST_INSTANCES", "YEAR_S", "Autoscaler", "Autoscaling", "Measured", "Metric"]

Metric = Literal["utilisation", "rows_per_s", "replicas_needed"]
METRICS: tuple[Metric, ...] = ("utilisation", "rows_per_s", "replicas_needed")
"""What can be scaled by."""
MOST_INSTANCES = 100_000
"""Of all replicas of a simulation: each takes memory."""
YEAR_S = 31_536_000
"""Nothing that is simulated takes longer by itself."""


@dataclass(frozen=True)
class Autoscaling:
    """How a fleet is scaled: each interval there are to be so many replicas that each has the target."""

    metric: Metric
    """"utilisation": the share of the time for which instances are busy; "rows_per_s": rows that a replica
    accepts in a second; "replicas_needed": what ``Engine.scaling_signals()`` says."""
    target: float
    """What one replica is to have of the metric."""
    least: int = 1
    """Replicas that there are at least."""
    most: int = 10_000
    """Replicas that there are at most."""
    interval_s: float = 15.0
    """Seconds from one decision to the next; each is about this time."""
    start_s: float = 30.0
    """Seconds that a replica takes to start; it costs from their beginning."""
    hold_s: float = 300.0
    """There are never fewer replicas than were wanted at any time in these last seconds."""
    tolerance: float = 0.1
    """What is nearer to the target than this share of it changes nothing."""

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ConfigError(f"metric must be one of {', '.join(METRICS)}, not {shown(self.metric)}")
        for name in ("target", "interval_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be a positive number, not {shown(getattr(self, name))}")
        for name in ("start_s", "hold_s"):
            if not 0 <= getattr(self, name) <= YEAR_S:
                raise ConfigError(
                    f"{name} must be from 0 to {YEAR_S}, a year, not {shown(getattr(self, name))}"
                )
        if not 0 <= self.tolerance < math.inf:
            raise ConfigError(f"tolerance must be 0 or more, not {shown(self.tolerance)}")
        if not 1 <= self.least <= self.most <= MOST_INSTANCES:
            raise ConfigError(
                f"least and most must be from 1 to {MOST_INSTANCES}, and most no less than least, not "
                f"{shown(self.least)} and {shown(self.most)}"
            )


@dataclass(frozen=True)
class Measured:
    """What an interval was like, over all replicas."""

    seconds: float
    open: int
    """Replicas that take requests now."""
    starting: int
    """Replicas that do not yet."""
    busy_s: float
    """Seconds of all instances for which they were busy."""
    instance_s: float
    """Seconds of all instances for which there were any."""
    rows_accepted: int
    work_s: float
    """What came and what waits, in seconds of one instance in the best runs that deadlines allow."""


class Autoscaler:
    """Remembers what was wanted, so that it scales down slowly."""

    def __init__(self, scaling: Autoscaling, instances: int) -> None:
        self._scaling = scaling
        self._instances = instances
        self._held = 1 + round(scaling.hold_s / scaling.interval_s)  # decisions that one counts in
        self._decisions = 0
        # (decision, wanted), falling: what a later and larger one outlasts is not kept.
        self._wanted: deque[tuple[int, int]] = deque()

    def wanted(self, measured: Measured) -> int:
        """Returns how many replicas there are to be now, those that start included."""
        scaling = self._scaling
        there = measured.open + measured.starting
        ratio = self._total(measured) / (scaling.target * there)
        wanted = there if abs(ratio - 1) <= scaling.tolerance else math.ceil(ratio * there - 1e-9)
        wanted = min(max(wanted, scaling.least), scaling.most)
        while self._wanted and self._wanted[-1][1] <= wanted:
            self._wanted.pop()
        self._wanted.append((self._decisions, wanted))
        self._decisions += 1
        if self._wanted[0][0] < self._decisions - self._held:
            self._wanted.popleft()
        return self._wanted[0][1]

    def _total(self, measured: Measured) -> float:
        """Returns the metric, summed over replicas."""
        if self._scaling.metric == "utilisation":
            return measured.open * measured.busy_s / max(measured.instance_s, 1e-9)
        if self._scaling.metric == "rows_per_s":
            return measured.rows_accepted / measured.seconds
        return replicas_needed(measured.work_s, measured.seconds, instances=self._instances)
