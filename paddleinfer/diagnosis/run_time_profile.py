"""What a run takes by its rows: as it was seen to, and beyond that as the warm-up measured."""

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
# Sizes that are nearer to each other than this are one.
_APART = 1.4
# As many instances running, as far as anybody can tell.
_MORE_RUNNING = 1.25


class RunTimeProfile:
    """Times with the rows' copying, with the model and the machine as slow as the runs given.

    Parameters
    ----------
    runs
        None of them failed.
    running
        Instances that ran while any did, on average.
    warmed
        What a warm-up measured, if there was one.
    instances
        How many ran together then.
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
        # Medians, so that a pause of the whole process is no size's fault.
        usual = {rows: statistics.median(us) for rows, us in by_rows.items()}
        seen = {rows: usual[rows] for rows, us in by_rows.items() if len(us) >= _FEWEST_RUNS}
        warm = {size.rows: us for size in warmed if (us := self._warmed_us(size.rows, running)) is not None}
        # What slows one size mostly slows all. One that is faster than in the warm-up may be so because it
        # runs all the time, which larger ones need not be.
        factor = _Curve(warm).compared({rows: [us] * len(by_rows[rows]) for rows, us in usual.items()})
        most_seen = max(seen, default=0)
        unseen = {
            rows: us * (factor if rows < most_seen else max(1.0, factor))
            for rows, us in warm.items()
            if all(max(rows, one) > _APART * min(rows, one) for one in seen)
        }
        self._now = _Curve({**unseen, **seen})
        # But pauses are part of what all runs together take.
        self._pauses = self._now.compared(by_rows)

    @property
    def most_rows(self) -> float:
        """The largest size that anything is known of; 0 where nothing is."""
        return self._now.most_rows

    def run_us(self, rows: float, running: float) -> float | None:
        """The mean time of a run, by its rows and by how many instances run; None where it is not known."""
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
        """As the warm-up has it; what slows instances is taken to grow evenly with those that run."""
        alone_us, together_us = self._alone.at(rows), self._together.at(rows)
        if alone_us is None or together_us is None:
            return None
        share = min(1.0, max(0.0, (running - 1) / max(1, self._instances - 1)))
        return alone_us + (together_us - alone_us) * share


class _Curve:
    """Time by rows: straight between the sizes that are known, and never falling."""

    def __init__(self, points: Mapping[int, float]) -> None:
        self._rows = sorted(points)
        self._us = list(itertools.accumulate((points[rows] for rows in self._rows), max))

    @property
    def most_rows(self) -> float:
        """0 where nothing is known."""
        return self._rows[-1] if self._rows else 0.0

    def at(self, rows: float) -> float | None:
        """Beyond the largest size, up to twice its rows, it grows as it does up to it from half of that."""
        if not self._rows:
            return None
        most = self.most_rows
        if rows <= most:
            return self._between(rows)
        if rows > 2 * most or self._rows[0] > most / 2:
            return None
        return self._us[-1] + (self._us[-1] - self._between(most / 2)) * (rows - most) / (most / 2)

    def compared(self, by_rows: Mapping[int, Sequence[float]]) -> float:
        """What runs took over what this says; 1 where it says nothing."""
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
