"""Estimates run times by rows: from observed runs, and beyond those from the warm-up."""

from __future__ import annotations

import bisect
import itertools
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paddleinfer.engine.warmup import WarmedSize
    from paddleinfer.tracing.records import TracedRun

__all__ = ["RunTimeProfile"]

# Fewer runs of a size say little about its time.
_FEWEST_RUNS = 3
# Sizes closer to each other than this count as one.
_APART = 1.4
# Averages this close count as the same number of running instances.
_MORE_RUNNING = 1.25


class RunTimeProfile:
    """Run times, the copying of rows included, with the model and the machine as slow as in the given runs.

    Parameters
    ----------
    runs
        The runs; none of them failed.
    running
        How many instances ran on average while any did.
    warmed
        The sizes that a warm-up measured, if there was one.
    instances
        How many instances ran together in the warm-up.
    """

    def __init__(
        self, runs: Sequence[TracedRun], running: float, warmed: Sequence[WarmedSize], instances: int
    ) -> None:
        self._running = running
        self._instances = instances
        self._alone = _Curve({size.rows: size.alone_us for size in warmed})
        self._together = _Curve({size.rows: size.together_us for size in warmed})
        by_rows: dict[int, list[float]] = defaultdict(list)
        for run in runs:
            by_rows[run.rows].append((run.scatter_end_ns - run.began_ns) / 1e3)
        # Medians are used, so that a pause of the whole process is not blamed on a size.
        usual = {rows: statistics.median(us) for rows, us in by_rows.items()}
        seen = {rows: usual[rows] for rows, us in by_rows.items() if len(us) >= _FEWEST_RUNS}
        warm = {size.rows: us for size in warmed if (us := self._warmed_us(size.rows, running)) is not None}
        # Whatever slows one size mostly slows all. A size may be faster than in the warm-up because it runs
        # all the time, and that need not make larger ones faster.
        factor = _Curve(warm).compared({rows: [us] * len(by_rows[rows]) for rows, us in usual.items()})
        most_seen = max(seen, default=0)
        unseen = {
            rows: us * (factor if rows < most_seen else max(1.0, factor))
            for rows, us in warm.items()
            if all(max(rows, one) > _APART * min(rows, one) for one in seen)
        }
        self._now = _Curve({**unseen, **seen})
        # But pauses are part of the time that all runs take together.
        self._pauses = self._now.compared(by_rows)

    @property
    def most_rows(self) -> float:
        """The largest known size; 0 if none is known."""
        return self._now.most_rows

    def run_us(self, rows: float, running: float) -> float | None:
        """Returns the mean time of a run by its rows and the running instances; None if it is not known."""
        us = self._now.at(rows)
        if us is None:
            return None
        if running > _MORE_RUNNING * self._running:
            known = min(rows, self._together.most_rows)
            then_us, now_us = self._warmed_us(known, running), self._warmed_us(known, self._running)
            if then_us is None or now_us is None:
                return None
            us = max(us * then_us / now_us, then_us)
        return us * self._pauses

    def _warmed_us(self, rows: float, running: float) -> float | None:
        """Returns the warm-up's time; slowing is assumed to grow evenly with the instances that run."""
        alone_us, together_us = self._alone.at(rows), self._together.at(rows)
        if alone_us is None or together_us is None:
            return None
        share = min(1.0, max(0.0, (running - 1) / max(1, self._instances - 1)))
        return alone_us + (together_us - alone_us) * share


class _Curve:
    """Time by rows, which is linear between the known sizes and never falls."""

    def __init__(self, points: Mapping[int, float]) -> None:
        self._rows = sorted(points)
        self._us = list(itertools.accumulate((points[rows] for rows in self._rows), max))

    @property
    def most_rows(self) -> float:
        """The largest known size; 0 if none is known."""
        return self._rows[-1] if self._rows else 0.0

    def at(self, rows: float) -> float | None:
        """Returns the time. Up to twice the largest size it continues the line from half that size."""
        if not self._rows:
            return None
        most = self.most_rows
        if rows <= most:
            return self._between(rows)
        if rows > 2 * most or self._rows[0] > most / 2:
            return None
        return self._us[-1] + (self._us[-1] - self._between(most / 2)) * (rows - most) / (most / 2)

    def compared(self, by_rows: Mapping[int, Sequence[float]]) -> float:
        """Returns the ratio of the runs' times to this curve's; 1 if it knows none."""
        taken = said = 0.0
        for rows, us in by_rows.items():
            here = self.at(rows)
            if here is not None:
                taken += sum(us)
                said += len(us) * here
        return taken / said if said else 1.0

    def _between(self, rows: float) -> float:
        high = bisect.bisect_left(self._rows, rows)
        if high == 0:
            return self._us[0]
        low_rows, high_rows = self._rows[high - 1], self._rows[high]
        low_us, high_us = self._us[high - 1], self._us[high]
        return low_us + (high_us - low_us) * (rows - low_rows) / (high_rows - low_rows)
