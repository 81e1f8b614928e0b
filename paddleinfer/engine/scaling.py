"""Says how many replicas an engine's traffic needs to be in time, from what the engine has counted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["TARGET", "WINDOW_S", "ScalingSignals", "ScalingWindow", "replicas_needed", "scaling_signals"]

TARGET = 0.7
"""The share of its capacity that a replica is to have, for requests come in bursts."""
WINDOW_S = 30.0
"""Seconds over which an engine says what its traffic needs."""

_SHORTEST_S = 5.0  # of a window: less says more about chance than about traffic
_LOST = ("refused", "shed", "expired")


@dataclass(frozen=True)
class ScalingSignals:
    """What an autoscaler or a router should know of one engine."""

    replicas_needed: float
    """How many replicas like this one its own traffic needs to be in time. The sum over all replicas of a
    service is how many these need together."""
    predicted_delay_s: float
    """Predicted seconds until what is queued has run."""
    share_shed: float
    """The share of the requests that were refused, shed or expired, from 0 to 1; 0 if none came."""
    utilisation: float
    """The share of the time for which instances were busy, from 0 to 1. It rises early, because small batches
    keep an instance busy, too."""


def replicas_needed(work_s: float, seconds: float, *, instances: int, target: float = TARGET) -> float:
    """Returns how many replicas it takes to do this work within this time; it is no whole number.

    Parameters
    ----------
    work_s
        Seconds that one instance would take for all rows that came in the time and for those that waited
        before, in batches that leave their deadlines time; ``offered_work_ns`` of ``stats()`` counts it.
    seconds
        In which time it came.
    instances
        Instances of one replica.
    target
        The share of its capacity that a replica is to have, above 0 and up to 1.

    Raises
    ------
    ConfigError
        A value is out of range.
    """
    if not 0 < target <= 1:
        raise ConfigError(f"target must be above 0 and at most 1, not {shown(target)}")
    if work_s < 0 or seconds <= 0 or instances < 1:
        raise ConfigError(
            "replicas_needed takes 0 or more seconds of work, a time above 0 and at least 1 instance, not "
            f"{shown(work_s)}, {shown(seconds)} and {shown(instances)}"
        )
    return work_s / (seconds * instances * target)


def scaling_signals(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    seconds: float,
    *,
    instances: int,
    target: float = TARGET,
) -> ScalingSignals:
    """Returns what two readings of ``Engine.stats()``, so many seconds apart, say about scaling.

    What waits at the end counts as work of this time, too: a queue is to be worked off within as long again.

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    def grew(*names: str) -> int:
        return sum(int(after[name]) - int(before[name]) for name in names)

    waiting_s = after["predicted_drain_ns"] * instances / 1e9
    came = grew("requests", "refused")
    busy_s = grew("gather_ns", "run_ns", "scatter_ns") / 1e9
    return ScalingSignals(
        replicas_needed(
            grew("offered_work_ns") / 1e9 + waiting_s, seconds, instances=instances, target=target
        ),
        predicted_delay_s=after["predicted_drain_ns"] / 1e9,
        # Some of those that are lost now came before.
        share_shed=min(1.0, grew(*_LOST) / came) if came else 0.0,
        # A run counts when it ends, with all of its time.
        utilisation=min(1.0, busy_s / (seconds * instances)),
    )


class ScalingWindow:
    """Readings of one engine's statistics over the last seconds, by whoever asks and however often.

    Parameters
    ----------
    stats
        The first reading, when the engine has begun.
    now_s
        Its time, on any clock that never falls.
    """

    def __init__(self, stats: Mapping[str, Any], now_s: float, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        # The lock is reentrant, because a signal handler may ask what its thread is asking.
        self._lock = threading.RLock()
        self._readings = deque([(now_s, stats)])

    def signals(self, stats: Mapping[str, Any], now_s: float, *, instances: int) -> ScalingSignals:
        """Takes a reading, and returns what has changed over the window, or over all time if that is less."""
        with self._lock:
            readings = self._readings
            while len(readings) > 1 and readings[1][0] <= now_s - self._window_s:
                readings.popleft()
            began_s, before = readings[0]
            # More readings than one a second would say no more.
            if now_s - readings[-1][0] >= 1:
                readings.append((now_s, stats))
        return scaling_signals(before, stats, max(_SHORTEST_S, now_s - began_s), instances=instances)
