"""Reads the spans in a document of Chrome's Trace Event Format.

It accepts imprecise documents, such as the arrays of Paddle Serving, whose times are strings.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Span",
    "events_of",
    "identity",
    "kind_of",
    "lenient_number",
    "number",
    "read",
    "slack_us",
    "spans",
]

_Track = tuple[Any, Any]


@dataclass(frozen=True)
class Span:
    """A slice of a track."""

    name: str
    pid: int | str
    tid: int | str
    start_us: float
    duration_us: float
    args: dict[str, Any]

    @property
    def end_us(self) -> float:
        """The time of its end."""
        return self.start_us + self.duration_us


def slack_us(time_us: float) -> float:
    """Half a nanosecond, and the rounding error of floats of this size."""
    return 0.0005 + 4 * math.ulp(time_us)


def number(value: Any) -> float | None:
    """Returns the value if it is a finite number and not a bool."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def events_of(document: Any) -> list[Any]:
    """Returns the events of an object or of a bare array; raises ValueError if it is neither."""
    events = document.get("traceEvents") if isinstance(document, dict) else document
    if isinstance(events, list):
        return events
    if isinstance(document, dict):
        found = (
            "no traceEvents" if "traceEvents" not in document else f"traceEvents that are {kind_of(events)}"
        )
        raise ValueError(f"a trace must be an object with an array traceEvents; this object has {found}")
    raise ValueError(
        f"a trace must be an object with traceEvents, or an array of events, not {kind_of(document)}"
    )


def spans(document: Any) -> list[Span]:
    """Returns slices, made of X and of pairs of B and E, by their start."""
    return read(document)[0]


def read(document: Any) -> tuple[list[Span], list[str]]:
    """Returns spans, and a sentence for each event that could not be made a span."""
    found: list[Span] = []
    problems: list[str] = []
    begun: dict[_Track, list[tuple[int, Span]]] = defaultdict(list)
    for index, event in enumerate(events_of(document)):
        if not isinstance(event, dict):
            problems.append(f"event {index} must be an object, not {kind_of(event)}")
            continue
        phase = event.get("ph")
        if phase not in ("X", "B", "E"):
            continue
        track = pid, tid = identity(event.get("pid", 0)), identity(event.get("tid", 0))
        start_us = lenient_number(event.get("ts"))
        duration_us = lenient_number(event.get("dur", 0)) if phase == "X" else 0.0
        name, args = event.get("name"), event.get("args") or {}
        if start_us is None or duration_us is None or duration_us < 0 or not isinstance(args, dict):
            problems.append(f"event {index} has no usable ts, dur or args")
        elif phase == "E":
            # Events are paired by name, because Paddle Serving writes the pairs of a line in any order.
            held = begun[track]
            backwards = range(len(held) - 1, -1, -1)
            place = next((at for at in backwards if name is None or held[at][1].name == name), None)
            if place is None:
                problems.append(f"event {index} ends {name!r}, which has not begun on its track")
                continue
            _, begin = held.pop(place)
            if start_us < begin.start_us:
                problems.append(f"event {index} ends {begin.name!r} before it begins")
                continue
            duration_us = start_us - begin.start_us
            found.append(Span(begin.name, pid, tid, begin.start_us, duration_us, {**begin.args, **args}))
        elif not isinstance(name, str) or not name:
            problems.append(f"event {index} must have a name, not {name!r}")
        else:
            span = Span(name, pid, tid, start_us, duration_us, args)
            if phase == "X":
                found.append(span)
            else:
                begun[track].append((index, span))
    for index, span in sorted(pair for left in begun.values() for pair in left):
        problems.append(f"event {index} begins {span.name!r}, which never ends")
    return sorted(found, key=lambda span: (span.start_us, -span.duration_us)), problems


def lenient_number(value: Any) -> float | None:
    """Does the same for a string that holds a number."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return number(value)


def identity(value: Any) -> int | str:
    """Returns a pid or tid; Paddle Serving writes numbers as strings."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value)
    return int(text) if text.isdecimal() and len(text) < 18 else text


def kind_of(value: Any) -> str:
    """Returns the type's name in JSON."""
    if value is None or isinstance(value, bool):
        return str(value)
    kinds = {dict: "an object", list: "an array", str: "a string", int: "an integer", float: "a number"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), type(value).__name__)
