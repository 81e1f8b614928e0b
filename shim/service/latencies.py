"""Counts request durations in buckets, which is compact; the difference of two counts gives any window."""

from __future__ import annotations

from math import log2
from typing import Any, Final

__all__ = ["Latencies"]

_PER_OCTAVE: Final = 8  # a bucket is 9 % wide
_LAST: Final = 28 * _PER_OCTAVE  # all times above four minutes share one


class Latencies:
    """The request durations of one model. Only the event loop's thread counts and reads them."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = [0] * (_LAST + 1)

    def add(self, seconds: float) -> None:
        """Counts one more request."""
        microseconds = seconds * 1e6
        bucket = int(log2(microseconds) * _PER_OCTAVE) if microseconds > 1 else 0
        self._counts[min(bucket, _LAST)] += 1

    def as_dict(self) -> dict[str, Any]:
        """Returns the count, percentiles of all so far, and buckets that are not empty: from, to, count."""
        buckets = [
            (round(_bound(number), 3), round(_bound(number + 1), 3), count)
            for number, count in enumerate(self._counts)
            if count
        ]
        total = sum(self._counts)
        percentiles = {
            f"p{percent}_us": _percentile(buckets, total * percent / 100) for percent in (50, 90, 99)
        }
        return {"count": total, **percentiles, "buckets": buckets}


def _bound(bucket: int) -> float:
    return float(2 ** (bucket / _PER_OCTAVE)) if bucket else 0.0


def _percentile(buckets: list[tuple[float, float, int]], wanted: float) -> float | None:
    """Returns a percentile; None without any request."""
    passed = 0
    for low, high, count in buckets:
        passed += count
        if passed >= wanted:
            return round(high - (high - low) * (passed - wanted) / count, 3)
    return None
