"""Goes through the stages of a search, and keeps what each of them found; measuring is given to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from paddleinfer.tuning.contest import ENOUGH_ROUNDS, Contest, Entrant
from paddleinfer.tuning.goal import Goal
from paddleinfer.tuning.samples import Fell, Sample
from paddleinfer.tuning.settings import Facts, Setting

__all__ = ["Bench", "Found", "Tried", "search"]

Stages = Mapping[str, Callable[[Facts, Setting], Iterable[Setting]]]


class Bench(Protocol):
    """Measures settings, which it keeps loaded from one round to the next."""

    def open(self, setting: Setting) -> Mapping[str, Any]:
        """Loads a model with a setting, and checks its answers; returns the options in force.

        Raises Fell if it cannot be loaded, or gives other answers than Paddle with its defaults.
        """

    def measure(self, setting: Setting, number: int) -> Sample:
        """Measures an open setting in the round of this number; raises Fell."""

    def close(self, settings: Sequence[Setting]) -> None:
        """Ends these."""

    def seconds_left(self) -> float:
        """Returns how much of the time for the search is left."""

    def seconds_of(self, action: str) -> float:
        """Returns how long an action takes, by the last one: "open" or "measure"; 0 while unknown."""


@dataclass
class Tried:
    """What is known of one setting: its contest of the most rounds, or why it fell out."""

    setting: Setting
    samples: Sequence[Sample] = ()
    of_defaults: float | None = None
    """How many times as good as the defaults it is, in the rounds of both."""
    fell: Fell | None = None
    misses: str = ""
    """Which limit it does not keep."""


@dataclass
class Found:
    """What a search has found so far."""

    best: Setting | None = None
    """The setting that won last; None if nobody keeps the limits."""
    gain: float = 1.0
    """How many times as good as the defaults it is."""
    tried: dict[str, Tried] = field(default_factory=dict)
    """Its text -> what is known of a setting, in the order of their trials."""
    not_tried: list[str] = field(default_factory=list)
    """The stages for which there was no time."""
    interrupted: bool = False
    """Whether Ctrl-C has cut it short."""

    @property
    def compared(self) -> bool:
        """Whether anything but the defaults was tried."""
        return len(self.tried) > 1


def search(goal: Goal, facts_of: Callable[[Mapping[str, Any]], Facts], stages: Stages, bench: Bench) -> Found:
    """Tries settings stage by stage; each stage varies the best that those before it found.

    The defaults take part in every contest, so that each figure is one of the same minutes as theirs. Ctrl-C
    ends the search, and what was found until then stays.

    Parameters
    ----------
    goal
        What is better.
    facts_of
        Tells what there is to choose from, by the options that are in force with the defaults.
    stages
        What is tried.
    bench
        What measures.

    Raises
    ------
    Fell
        The defaults cannot be measured.
    KeyboardInterrupt
        Ctrl-C, before anything was compared.
    """
    found = Found()
    defaults = Setting()
    facts = facts_of(bench.open(defaults))
    waiting = dict(stages)
    try:
        while waiting:
            name = next(iter(waiting))
            best = found.best or defaults
            others = [one for one in stages[name](facts, best) if str(one) not in found.tried]
            if others and not _has_time(bench, 2):
                break
            _stage(goal, bench, found, defaults, best, others)
            del waiting[name]
    except KeyboardInterrupt:
        if not any(tried.samples for tried in found.tried.values()):
            raise
        found.interrupted = True
    found.not_tried = [name for name in waiting if list(stages[name](facts, found.best or defaults))]
    if not any(tried.samples for tried in found.tried.values()):
        contest = Contest(goal, [defaults])  # there is nothing else: the figures of the defaults alone
        contest.entrants[0].samples[0] = bench.measure(defaults, 0)
        _conclude(found, contest)
    return found


def _has_time(bench: Bench, entrants: int) -> bool:
    """Tells whether there is time to open one more setting, and for a round of so many and that one."""
    round_s = (entrants + 1) * bench.seconds_of("measure")
    return bench.seconds_left() > bench.seconds_of("open") + round_s


def _stage(
    goal: Goal, bench: Bench, found: Found, defaults: Setting, best: Setting, others: Sequence[Setting]
) -> None:
    """Holds the contest of one stage, and notes what it found, also if it is cut short."""
    if not others:
        return
    first = [defaults] if str(best) == str(defaults) else [defaults, best]
    contest = Contest(goal, first, kept=len(first))
    try:
        for setting in others:
            entrant = Entrant(setting)
            if not _has_time(bench, len(contest.running)):
                break
            try:
                bench.open(setting)
            except Fell as fell:
                entrant.fell = fell
            contest.entrants.append(entrant)
        contest.play(
            bench.measure, lambda running: bench.seconds_left() > running * bench.seconds_of("measure")
        )
    finally:
        _conclude(found, contest)
        keep = {str(defaults), str(found.best)}
        bench.close([entrant.setting for entrant in contest.entrants if str(entrant.setting) not in keep])


def _conclude(found: Found, contest: Contest) -> None:
    """Puts the winner in place, unless it is no better than the defaults were in the same rounds.

    A contest that was cut short does not take back what an earlier one found.
    """
    _note(found, contest)
    winner, defaults = contest.winner(), contest.entrants[0]
    if winner is None:
        return
    if not contest.misses(defaults) and not contest.beats(winner, defaults):
        winner = defaults
    before = next((one for one in contest.entrants if str(one.setting) == str(found.best)), None)
    if before is not None and contest.rounds < ENOUGH_ROUNDS and not contest.beats(winner, before):
        return
    found.best = winner.setting
    found.gain = 1.0 if winner is defaults else contest.ratio(winner) or 1.0


def _note(found: Found, contest: Contest) -> None:
    for entrant in contest.entrants:
        text = str(entrant.setting)
        before = found.tried.get(text)
        if before is not None and entrant.fell is None and len(before.samples) > len(entrant.samples):
            continue
        found.tried[text] = Tried(
            entrant.setting,
            [entrant.samples[number] for number in sorted(entrant.samples)],
            contest.ratio(entrant) if entrant.samples else None,
            entrant.fell,
            contest.misses(entrant) if entrant.samples and contest.entrants[0].samples else "",
        )
