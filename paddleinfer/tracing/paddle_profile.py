"""Reads and writes the PROFILE lines of Paddle Serving, and turns them into a Chrome trace.

Its clients and pipelines write one to stderr for each request, among other lines::

    PROFILE<tab>pid:<pid><tab><stage>_0:<microseconds> <stage>_1:<microseconds> ...

``_0`` is the time since the epoch at which a stage begins, and ``_1`` that at which it ends. The part of a
stage's name after a ``#`` is its track. The tools of Paddle Serving read what ``profile_line`` writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from paddleinfer.sentences import shown
from paddleinfer.tracing.document import build
from paddleinfer.tracing.events import Span

__all__ = ["Profile", "is_profile_line", "profile_line", "read", "to_chrome"]

_LINE = re.compile(r"PROFILE\s+pid:(\d{1,9})(?:\s(.*))?", re.DOTALL)
_TIME = re.compile(r"(.+)_([01]):([0-9]{1,16})", re.DOTALL)
# A pipeline appends the request's number to these names; each is one stage here.
_NUMBERED = re.compile(r"(call|prepack|postpack)_(\d{1,18})")
_TRACK = "stages"
_EXACT_BELOW = 1 << 53


@dataclass(frozen=True)
class Profile:
    """The contents of a file."""

    lines: list[list[Span]]
    """The stages of each PROFILE line, in the order of their ends."""
    problems: list[str]
    """A sentence for each damaged part of a line, which is left out."""


def is_profile_line(line: str) -> bool:
    """Tells whether the line is meant as a PROFILE line."""
    return line.lstrip().startswith("PROFILE\t") or "PROFILE\tpid:" in line or _LINE.match(line) is not None


def read(lines: Iterable[str]) -> Profile:
    """Reads the stages of every PROFILE line, and ignores other lines."""
    profile = Profile([], [])
    for number, line in enumerate(lines, 1):
        if not is_profile_line(line):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            profile.problems.append(
                f"line {number} must begin with PROFILE, a tab, pid:<number> and a tab; it is left out"
            )
            continue
        stages, problems = _stages(int(match[1]), (match[2] or "").split())
        profile.problems.extend(f"line {number}: {problem}; it is left out" for problem in problems)
        if stages:
            profile.lines.append(stages)
    return profile


def to_chrome(lines: Iterable[str]) -> dict[str, Any]:
    """Makes a trace that ``validate.check`` passes, with the times of the lines.

    ``otherData`` lists damaged parts under ``left_out``. Raises ValueError if there is no PROFILE line.
    """
    profile = read(lines)
    if not profile.lines:
        damaged = f": {profile.problems[0]}" if profile.problems else ""
        raise ValueError(
            "there is no PROFILE line with a stage that begins and ends, as Paddle Serving writes them when "
            f"FLAGS_profile_client=1 is set{damaged}"
        )
    other = {"source": "PROFILE lines", "clock": "microseconds since the epoch"}
    return build(profile.lines, other={**other, "left_out": profile.problems})


def profile_line(pid: int, stages: Sequence[tuple[str, int, int]]) -> str:
    """Makes a PROFILE line, without its newline, of stages that each have a name, a begin and an end.

    Times are microseconds since the epoch. A name may be followed by ``#`` and its track.
    """
    if isinstance(pid, bool) or not isinstance(pid, int) or not 0 <= pid < 10**9:
        raise ValueError(f"a pid must be an integer from 0 to 999999999, not {shown(pid)}")
    parts = []
    for name, begin_us, end_us in stages:
        if not name or name.split() != [name]:
            raise ValueError(f"the name of a stage must be a word without white space, not {shown(name)}")
        for time_us in (begin_us, end_us):
            if isinstance(time_us, bool) or not isinstance(time_us, int) or not 0 <= time_us < _EXACT_BELOW:
                raise ValueError(
                    f"a time of {name} must be an integer of microseconds since the epoch, "
                    f"not {shown(time_us)}"
                )
        if end_us < begin_us:
            raise ValueError(f"{name} must not end before it begins, as it does by {begin_us - end_us} us")
        parts += [f"{name}_0:{begin_us}", f"{name}_1:{end_us}"]
    return f"PROFILE\tpid:{pid}\t{' '.join(parts)}"


def _stages(pid: int, words: list[str]) -> tuple[list[Span], list[str]]:
    stages: list[Span] = []
    problems: list[str] = []
    begun: dict[str, list[int]] = {}
    for word in words:
        match = _TIME.fullmatch(word)
        if match is None or int(match[3]) >= _EXACT_BELOW:
            problems.append(f"{shown(word)} must be <stage>_0:<microseconds> or <stage>_1:<microseconds>")
            continue
        name, time_us = match[1], int(match[3])
        if match[2] == "0":
            begun.setdefault(name, []).append(time_us)
        elif not begun.get(name):
            problems.append(f"{shown(name)} ends without having begun")
        else:
            begin_us = begun[name].pop()
            if time_us < begin_us:
                problems.append(f"{shown(name)} ends {begin_us - time_us} us before it begins")
            else:
                stages.append(_span(pid, name, begin_us, time_us))
    problems += [f"{shown(name)} begins and does not end" for name, left in begun.items() for _ in left]
    return stages, problems


def _span(pid: int, name: str, begin_us: int, end_us: int) -> Span:
    stage, _, track = name.rpartition("#")
    if not stage or not track:
        return Span(name, pid, _TRACK, begin_us, end_us - begin_us, {})
    numbered = _NUMBERED.fullmatch(stage)
    if numbered is None:
        return Span(stage, pid, track, begin_us, end_us - begin_us, {})
    return Span(numbered[1], pid, track, begin_us, end_us - begin_us, {"request": int(numbered[2])})
