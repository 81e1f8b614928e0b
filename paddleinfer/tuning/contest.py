"""Decides between settings that were measured in turns, round by round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from paddleinfer.tuning.goal import Goal
from paddleinfer.tuning.samples import Fell, Sample
from paddleinfer.tuning.settings import Setting

__all__ = ["ENOUGH_ROUNDS", "Contest", "Entrant", "beats"]

ENOUGH_ROUNDS = 3
"""Rounds after which what is clear is believed."""

# Rounds of a contest whose settings stay close.
_MOST_ROUNDS = 5

# By how much the median of the ratios must exceed 1 after so many rounds, and each ratio must be above 1.
_MARGINS = {1: 0.5, 2: 0.2}
_MARGIN = 0.03
# Of so many rounds one may say the contrary, where the median exceeds 1 by so much: a machine has hiccups.
_ROUNDS_WITH_A_HICCUP = 4
_MARGIN_WITH_A_HICCUP = 0.2
# After so many rounds a setting falls out that is so far behind the best. What is as clear ends the contest.
_BEHIND = {1: 0.5, 2: 0.25, 3: 0.15, 4: 0.1}
_CLEAR = 0.15


def beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tells whether one is better than the other beyond the noise; else they are tied, or it is worse.

    Parameters
    ----------
    one, other
        Scores of the same rounds, in order.
    """
    ratios = [a / b for a, b in zip(one, other, strict=True) if b > 0]
    if not ratios:
        return False
    median = statistics.median(ratios)
    contrary = sum(ratio <= 1 for ratio in ratios)
    if contrary == 1 and len(ratios) >= _ROUNDS_WITH_A_HICCUP:
        return median >= 1 + _MARGIN_WITH_A_HICCUP
    return not contrary and median >= 1 + _MARGINS.get(len(ratios), _MARGIN)


@dataclass
class Entrant:
    """A setting, and what was measured of it in one contest."""

    setting: Setting
    samples: dict[int, Sample] = field(default_factory=dict)
    """Round -> its figures."""
    fell: Fell | None = None
    """Why it cannot be measured."""
    behind: bool = False
    """Whether it fell out because others are far better."""


class Contest:
    """Settings that are measured in turns, until it is clear which is best.

    Parameters
    ----------
    goal
        What is better.
    settings
        Those that take part; the first is the defaults.
    kept
        How many of the first ones stay in to the end: the defaults, and what is best so far.
    """

    def __init__(self, goal: Goal, settings: Iterable[Setting], kept: int = 1) -> None:
        self.entrants = [Entrant(setting) for setting in settings]
        self._goal = goal
        self._kept = kept
        self.rounds = 0

    def play(self, measure: Callable[[Setting, int], Sample], goes_on: Callable[[int], bool]) -> None:
        """Measures round after round.

        Parameters
        ----------
        measure
            Measures a setting in a round of this number; raises Fell.
        goes_on
            Tells, by how many settings are left to measure in a round, whether there is time for one.
        """
        while self.rounds < _MOST_ROUNDS and not self._is_clear():
            running = self.running
            if len(running) < 2 or not goes_on(len(running)):
                return
            turn = self.rounds % len(running)
            for entrant in [*running[turn:], *running[:turn]]:  # nobody always comes first
                try:
                    entrant.samples[self.rounds] = measure(entrant.setting, self.rounds)
                except Fell as fell:
                    entrant.fell = fell
            self.rounds += 1
            self._drop()

    @property
    def running(self) -> list[Entrant]:
        """Those that are neither out nor far behind."""
        return [entrant for entrant in self.entrants if entrant.fell is None and not entrant.behind]

    def winner(self) -> Entrant | None:
        """Returns the simplest of those that no other beats; None if nobody keeps the limits.

        That the best does not beat a setting is not enough: it may have had one bad round.
        """
        kept = self._keep_limits()
        unbeaten = [one for one in kept if not any(self.beats(other, one) for other in kept)]
        return min(unbeaten or kept, key=lambda entrant: entrant.setting.distance, default=None)

    def beats(self, one: Entrant, other: Entrant) -> bool:
        """Tells whether one is better than the other beyond the noise, in the rounds that both ran."""
        rounds = sorted(one.samples.keys() & other.samples.keys())
        scores = [[self._goal.score(entrant.samples[n]) for n in rounds] for entrant in (one, other)]
        return beats(*scores)

    def ratio(self, one: Entrant) -> float | None:
        """Returns how many times as good as the defaults one is: the median over the rounds of both."""
        defaults = self.entrants[0]
        rounds = one.samples.keys() & defaults.samples.keys()
        ratios = [
            self._goal.score(one.samples[n]) / usual
            for n in rounds
            if (usual := self._goal.score(defaults.samples[n])) > 0
        ]
        return statistics.median(ratios) if ratios else None

    def misses(self, entrant: Entrant) -> str:
        """Says which limit it does not keep; empty if it keeps all."""
        defaults = self.entrants[0].samples
        return self._goal.misses(list(entrant.samples.values()), list(defaults.values()))

    def _keep_limits(self) -> list[Entrant]:
        if not self.entrants[0].samples:
            return []
        return [entrant for entrant in self.running if entrant.samples and not self.misses(entrant)]

    def _median(self, entrant: Entrant) -> float:
        return statistics.median(self._goal.score(sample) for sample in entrant.samples.values())

    def _drop(self) -> None:
        best = max(map(self._median, self._keep_limits()), default=0.0)
        limit = best * (1 - _BEHIND.get(self.rounds, 1.0))
        for entrant in self.running:
            if self.entrants.index(entrant) >= self._kept and self._median(entrant) < limit:
                entrant.behind = True

    def _is_clear(self) -> bool:
        """Tells whether enough rounds show one that is far better than all others in each of them."""
        if self.rounds < ENOUGH_ROUNDS:
            return False
        running = self.running
        best = max(self._keep_limits(), key=self._median, default=None)
        return best is not None and all(
            self._goal.score(best.samples[n]) > (1 + _CLEAR) * self._goal.score(sample)
            for entrant in running
            if entrant is not best
            for n, sample in entrant.samples.items()
        )
