"""Checks that a message over a connection is not silent, not too slow, and does not take too long."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Pace", "PaceLimits"]


@dataclass(frozen=True)
class PaceLimits:
    """The limits of one direction."""

    silence_s: float
    """The longest time between two pieces."""
    least_bytes_per_s: float
    """The least average rate of a message that takes longer than one silence."""
    total_s: float = math.inf
    """The longest time from the first piece to the last."""


class Pace:
    """The pace of one message at a time, by the caller's clock."""

    __slots__ = ("_began_s", "_heard_s", "_limits", "moved_bytes")

    def __init__(self, limits: PaceLimits, now_s: float) -> None:
        self._limits = limits
        self.begin(now_s)

    def begin(self, now_s: float) -> None:
        """Another message."""
        self._began_s = self._heard_s = now_s
        self.moved_bytes = 0

    def move(self, now_s: float, count_bytes: int) -> None:
        """Counts a piece of the message."""
        self._heard_s = now_s
        self.moved_bytes += count_bytes

    def left_s(self, now_s: float) -> float:
        """Returns the seconds until it is too slow, if nothing comes meanwhile."""
        limits = self._limits
        enough_s = limits.silence_s + self.moved_bytes / limits.least_bytes_per_s
        ends_s = min(self._heard_s + limits.silence_s, self._began_s + min(enough_s, limits.total_s))
        return ends_s - now_s

    def fault(self, now_s: float) -> str:
        """Says what was wrong, for the end of a sentence, once no time is left."""
        limits = self._limits
        if now_s >= self._heard_s + limits.silence_s:
            return f"nothing more came for {limits.silence_s:g} s"
        if now_s >= self._began_s + limits.total_s:
            return f"it was not whole after {limits.total_s:g} s"
        return f"it came at less than {limits.least_bytes_per_s:g} bytes/s"
