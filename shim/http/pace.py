"""Whether what goes over a connection goes fast enough: not silent, not too slow, not for too long."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Pace", "PaceLimits"]


@dataclass(frozen=True)
class PaceLimits:
    """Of one direction."""

    silence_s: float
    """Between two pieces."""
    least_bytes_per_s: float
    """On the average, beyond one silence."""
    total_s: float = math.inf
    """From the first piece to the last."""


class Pace:
    """Of one message at a time; on the clock of whoever asks."""

    __slots__ = ("_began_s", "_heard_s", "_limits", "moved_bytes")

    def __init__(self, limits: PaceLimits, now_s: float) -> None:
        self._limits = limits
        self.begin(now_s)

    def begin(self, now_s: float) -> None:
        """Another message."""
        self._began_s = self._heard_s = now_s
        self.moved_bytes = 0

    def move(self, now_s: float, count_bytes: int) -> None:
        """A piece of it."""
        self._heard_s = now_s
        self.moved_bytes += count_bytes

    def left_s(self, now_s: float) -> float:
        """Until it is too slow, if nothing comes meanwhile."""
        limits = self._limits
        enough_s = limits.silence_s + self.moved_bytes / limits.least_bytes_per_s
        ends_s = min(self._heard_s + limits.silence_s, self._began_s + min(enough_s, limits.total_s))
        return ends_s - now_s

    def fault(self, now_s: float) -> str:
        """What was wrong with it, for the end of a sentence; once nothing is left."""
        limits = self._limits
        if now_s >= self._heard_s + limits.silence_s:
            return f"nothing more came for {limits.silence_s:g} s"
        if now_s >= self._began_s + limits.total_s:
            return f"it was not whole after {limits.total_s:g} s"
        return f"it came at less than {limits.least_bytes_per_s:g} bytes/s"
