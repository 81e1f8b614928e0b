"""Checks whether a document keeps the rules of Chrome's Trace Event Format.

The check is strict: chrome://tracing and Perfetto draw a document that passes alike.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from typing import Any

from paddleinfer.sentences import shown
from paddleinfer.tracing.events import Span, events_of, kind_of, number, slack_us, spans

__all__ = ["Span", "check", "spans"]

_TIMED = ("X", "B", "E", "C", "i", "s", "t", "f")
_FLOW = ("s", "t", "f")
# The args that each kind of metadata must have.
_METADATA: dict[str, tuple[str, type]] = {
    "process_name": ("name", str),
    "thread_name": ("name", str),
    "process_labels": ("labels", str),
    "process_sort_index": ("sort_index", int),
    "thread_sort_index": ("sort_index", int),
}
_Track = tuple[Any, Any]


def check(document: Any) -> list[str]:
    """Returns a sentence for each rule that the document breaks; none if it is valid."""
    try:
        events = events_of(document)
    except ValueError as error:
        return [str(error)]
    return _Check().run(document, events)


class _Check:
    def __init__(self) -> None:
        self._problems: list[str] = []
        self._begun: dict[_Track, list[tuple[str, float]]] = defaultdict(list)
        self._slices: dict[_Track, list[tuple[float, float, str]]] = defaultdict(list)
        self._flows: dict[Any, list[tuple[str, float, _Track, str]]] = defaultdict(list)
        self._covered: dict[_Track, list[tuple[float, float]]] = {}
        self._latest = -math.inf

    def run(self, document: Any, events: list[Any]) -> list[str]:
        if isinstance(document, dict):
            self._must(
                document.get("displayTimeUnit", "ms") in ("ms", "ns"),
                f"displayTimeUnit must be ms or ns, not {shown(document.get('displayTimeUnit'))}",
            )
            self._must(isinstance(document.get("otherData", {}), dict), "otherData must be an object")
        for index, event in enumerate(events):
            if self._must(isinstance(event, dict), f"event {index} must be an object, not {kind_of(event)}"):
                self._event(f"event {index} ({event.get('ph')} {shown(event.get('name'))})", event)
        for (pid, tid), left in self._begun.items():
            for name, _ in left:
                self._must(
                    False, f"{shown(name)} on pid {shown(pid)}, tid {shown(tid)} begins and never ends"
                )
        for track, slices in self._slices.items():
            self._nest(track, slices)
        for flow, parts in self._flows.items():
            self._flow(flow, parts)
        return self._problems

    def _must(self, holds: bool, sentence: str) -> bool:
        if not holds:
            self._problems.append(sentence)
        return holds

    def _event(self, label: str, event: dict[str, Any]) -> None:
        phase, name, args = event.get("ph"), event.get("name"), event.get("args", {})
        known = phase == "M" or phase in _TIMED
        if not self._must(known, f"{label} must have a ph that is one of M, {', '.join(_TIMED)}"):
            return
        needs_tid = not (phase == "C" or (phase == "M" and str(name).startswith("process")))
        sound = self._must(_whole(event.get("pid")), f"{label} must have an integer pid")
        if needs_tid or "tid" in event:
            sound &= self._must(_whole(event.get("tid")), f"{label} must have an integer tid")
        named = (isinstance(name, str) and name != "") or (phase == "E" and name is None)
        sound &= self._must(named, f"{label} must have a name that is a string and not empty")
        sound &= self._must(isinstance(args, dict), f"{label} must have args that are an object")
        self._must(isinstance(event.get("cat", ""), str), f"{label} must have a cat that is a string")
        time_us = number(event.get("ts"))
        if phase != "M" or "ts" in event:
            sound &= self._must(
                time_us is not None, f"{label} must have a ts that is a number, not {shown(event.get('ts'))}"
            )
        if not sound:
            return
        if phase == "M":
            key, kind = _METADATA.get(str(name), ("", object))
            if self._must(key != "", f"{label} must be one of {', '.join(_METADATA)}"):
                holds = isinstance(args.get(key), kind) and not isinstance(args.get(key), bool)
                self._must(holds, f"{label} must have args with {key}, {kind_of(kind())}")
            return
        assert time_us is not None
        self._must(time_us >= self._latest, f"{label} comes after an event with a later ts")
        self._latest = max(self._latest, time_us)
        self._timed(label, event, (event["pid"], event.get("tid")), time_us)

    def _timed(self, label: str, event: dict[str, Any], track: _Track, time_us: float) -> None:
        phase, name, args = event["ph"], event.get("name"), event.get("args", {})
        if phase == "X":
            held = number(event.get("dur"))
            if self._must(held is not None and held >= 0, f"{label} must have a dur of 0 or more"):
                self._slices[track].append((time_us, time_us + (held or 0.0), str(name)))
        elif phase == "B":
            self._begun[track].append((str(name), time_us))
        elif phase == "E":
            if self._must(bool(self._begun[track]), f"{label} ends what has not begun on its track"):
                begun, begun_us = self._begun[track].pop()
                self._must(
                    name in (None, begun), f"{label} ends {shown(begun)}, which began last on its track"
                )
                if self._must(time_us >= begun_us, f"{label} ends {shown(begun)} before it begins"):
                    self._slices[track].append((begun_us, time_us, begun))
        elif phase == "C":
            numeric = bool(args) and all(number(value) is not None for value in args.values())
            self._must(numeric, f"{label} must have args that are numbers, and one at least")
        elif phase == "i":
            self._must(event.get("s", "t") in ("g", "p", "t"), f"{label} must have an s of g, p or t")
        else:
            ident = event.get("id")
            if self._must(_whole(ident) or isinstance(ident, str), f"{label} must have an id"):
                # Without it the arrow points to the slice that begins next.
                self._must(phase != "f" or event.get("bp") == "e", f'{label} must have a bp that is "e"')
                key = (event.get("cat"), name, ident)
                self._flows[repr(key)].append((phase, time_us, track, label))

    def _nest(self, track: _Track, slices: list[tuple[float, float, str]]) -> None:
        around: list[tuple[float, str]] = []
        for start, end, name in sorted(slices, key=lambda it: (it[0], -it[1])):
            while around and around[-1][0] <= start + slack_us(start):
                around.pop()
            overlaps = bool(around) and end > around[-1][0] + slack_us(end)
            if overlaps:
                where = f"on pid {shown(track[0])}, tid {shown(track[1])} from {start:.15g} us"
                self._must(
                    False, f"{shown(name)} {where} ends after {shown(around[-1][1])}, in which it begins"
                )
            around.append((end, name))

    def _flow(self, flow: str, parts: list[tuple[str, float, _Track, str]]) -> None:
        times: dict[str, list[float]] = {
            phase: [time for it, time, _, _ in parts if it == phase] for phase in _FLOW
        }
        counts = [len(times["s"]), len(times["f"])]
        label = f"the flow with the cat, name and id {flow}"
        if self._must(
            counts == [1, 1], f"{label} must have one s and one f, not {counts[0]} and {counts[1]}"
        ):
            begin, end = times["s"][0], times["f"][0]
            self._must(begin <= end, f"{label} has its f before its s")
            self._must(all(begin <= at <= end for at in times["t"]), f"{label} has a t outside of s and f")
        for _, time_us, track, event in parts:
            outer = self._outer(track)
            place = bisect_right(outer, time_us + slack_us(time_us), key=lambda it: it[0]) - 1
            inside = place >= 0 and time_us <= outer[place][1] + slack_us(time_us)
            self._must(inside, f"{event} lies in no slice of its track")

    def _outer(self, track: _Track) -> list[tuple[float, float]]:
        """Returns the times that the slices of a track cover."""
        if track not in self._covered:
            covered = self._covered[track] = []
            for start, end, _ in sorted(self._slices[track]):
                if covered and start <= covered[-1][1]:
                    covered[-1] = (covered[-1][0], max(end, covered[-1][1]))
                else:
                    covered.append((start, end))
        return self._covered[track]


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
