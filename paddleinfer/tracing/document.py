"""Makes a valid document of Chrome's Trace Event Format, from spans or from an invalid document."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, count
from typing import Any

from paddleinfer.tracing.events import Span, events_of, identity, lenient_number, read, slack_us
from paddleinfer.tracing.lanes import in_lanes
from paddleinfer.tracing.validate import check

__all__ = ["build", "counters_of", "names_of", "sound"]

_Track = tuple[int | str, int | str]
_MOST_COMPARED = 64


def sound(document: Any) -> tuple[dict[str, Any], list[str]]:
    """Returns the document if ``check`` passes it, else a valid one of its content and what was left out.

    Raises ValueError if it is not a trace or has nothing to draw.
    """
    events = events_of(document)
    if events and not check(document):
        whole = {"traceEvents": document, "displayTimeUnit": "ms", "otherData": {}}
        return (document if isinstance(document, dict) else whole), []
    found, left_out = read(document)
    counters = counters_of(document)
    if not found and not counters:
        reason = f": {left_out[0]}" if left_out else ""
        raise ValueError(f"the trace must have a slice, of ph X or of B and E, and has none{reason}")
    phases = Counter(str(event.get("ph")) for event in events if isinstance(event, dict))
    for phase, times in phases.items():
        if phase in ("X", "B", "E", "M", "C"):
            continue
        left_out.append(f"{times} of the events have the ph {phase}, which only a valid trace keeps")
    other = document.get("otherData") if isinstance(document, dict) else None
    threads, processes = names_of(document)
    # Tracks keep the order in which the document names them.
    order = {track: place for place, track in enumerate(threads)}
    found.sort(key=lambda span: order.get((span.pid, span.tid), len(order)))
    return build(
        [[span] for span in found],
        thread_names=threads,
        process_names=processes,
        counters=counters,
        other=other if isinstance(other, dict) else None,
    ), left_out


def names_of(document: Any) -> tuple[dict[_Track, str], dict[int | str, str]]:
    """Returns the names that the document gives threads, and those it gives processes."""
    threads: dict[_Track, str] = {}
    processes: dict[int | str, str] = {}
    for event in events_of(document):
        if not isinstance(event, dict) or event.get("ph") != "M" or not isinstance(event.get("args"), dict):
            continue
        name, pid = event["args"].get("name"), identity(event.get("pid", 0))
        if isinstance(name, str) and event.get("name") == "thread_name":
            threads[pid, identity(event.get("tid", 0))] = name
        elif isinstance(name, str) and event.get("name") == "process_name":
            processes[pid] = name
    return threads, processes


def counters_of(document: Any) -> list[dict[str, Any]]:
    """Returns the C events that have a time and numbers, in the order of their times."""
    found = []
    for event in events_of(document):
        if not isinstance(event, dict) or event.get("ph") != "C" or not isinstance(event.get("args"), dict):
            continue
        numbers = {key: lenient_number(value) for key, value in event["args"].items()}
        args = {key: _plain(value) for key, value in numbers.items() if value is not None}
        ts, name = lenient_number(event.get("ts")), event.get("name")
        if ts is not None and args and isinstance(name, str) and name:
            pid = identity(event.get("pid", 0))
            found.append({"ph": "C", "name": name, "pid": pid, "ts": _plain(ts), "args": args})
    return sorted(found, key=lambda event: float(event["ts"]))


def build(
    groups: Iterable[Sequence[Span]],
    *,
    thread_names: Mapping[_Track, str] | None = None,
    process_names: Mapping[int | str, str] | None = None,
    counters: Sequence[dict[str, Any]] = (),
    other: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Makes a document in the object form.

    The spans of a group belong together, such as those of one request, and stay together on a track. Spans
    that overlap in part get separate tracks. So do two spans of one name of which one lies in the other: they
    are two requests at once, and not one inside the other.
    """
    by_track: dict[_Track, list[list[Span]]] = defaultdict(list)
    for group in groups:
        of_group: dict[_Track, list[Span]] = defaultdict(list)
        for span in group:
            of_group[span.pid, span.tid].append(span)
        for track, parts in of_group.items():
            together = len(parts) <= _MOST_COMPARED and all(
                _may_share(a, b) for a, b in combinations(parts, 2)
            )
            by_track[track] += [parts] if together else [[span] for span in parts]
    pids = _whole_numbers([*(pid for pid, _ in by_track), *(event["pid"] for event in counters)])
    metadata: list[dict[str, Any]] = []
    timed: list[tuple[float, float, dict[str, Any]]] = []
    for pid, whole in pids.items():
        name = (process_names or {}).get(pid, f"process {pid}")
        metadata.append({"ph": "M", "name": "process_name", "pid": whole, "args": {"name": name}})
        tracks = [track for track in by_track if track[0] == pid]
        tids = _whole_numbers(tid for _, tid in tracks)
        taken = set(tids.values())
        free = (tid for tid in count(1) if tid not in taken)
        place = count()
        for track in tracks:
            default = track[1] if isinstance(track[1], str) else f"thread {track[1]}"
            name = (thread_names or {}).get(track, default)
            for number, lane in enumerate(_lanes(by_track[track])):
                tid = next(free) if number else tids[track[1]]
                metadata += _thread(whole, tid, f"{name} ({number + 1})" if number else name, next(place))
                timed += [(span.start_us, -span.end_us, _slice(span, whole, tid)) for span in lane]
    timed += [(event["ts"], 0.0, {**event, "pid": pids[event["pid"]]}) for event in counters]
    events = [event for *_, event in sorted(timed, key=lambda it: it[:2])]
    return {
        "traceEvents": metadata + events,
        "displayTimeUnit": "ms",
        "otherData": dict(other or {}),
    }


def _lanes(groups: list[list[Span]]) -> list[list[Span]]:
    """Puts each group in the first lane that has room."""

    def has_room(held: Sequence[list[Span]], group: list[Span]) -> bool:
        return all(_may_share(a, b) for inside in held for a in inside for b in group)

    lanes: dict[int, list[Span]] = defaultdict(list)
    extents = ((min(s.start_us for s in group), max(s.end_us for s in group), group) for group in groups)
    for lane, group in in_lanes(extents, has_room):
        lanes[lane].extend(group)
    return [lanes[number] for number in sorted(lanes)]


def _may_share(a: Span, b: Span) -> bool:
    """Tells whether they may be on one track."""
    first, second = (a, b) if (a.start_us, -a.end_us) <= (b.start_us, -b.end_us) else (b, a)
    if first.end_us <= second.start_us + slack_us(second.start_us):
        return True
    return second.end_us <= first.end_us + slack_us(first.end_us) and first.name != second.name


def _whole_numbers(values: Iterable[int | str]) -> dict[int | str, int]:
    """Maps ids to integers: integers stay, strings get free ones."""
    distinct = dict.fromkeys(values)
    taken = {value for value in distinct if isinstance(value, int)}
    free = (number for number in count(1) if number not in taken)
    return {value: value if isinstance(value, int) else next(free) for value in distinct}


def _thread(pid: int, tid: int, name: str, place: int) -> list[dict[str, Any]]:
    event = {"ph": "M", "pid": pid, "tid": tid}
    return [
        {**event, "name": "thread_name", "args": {"name": name}},
        {**event, "name": "thread_sort_index", "args": {"sort_index": place}},
    ]


def _slice(span: Span, pid: int, tid: int) -> dict[str, Any]:
    event: dict[str, Any] = {"ph": "X", "name": span.name, "pid": pid, "tid": tid}
    event |= {"ts": _plain(span.start_us), "dur": _plain(span.duration_us)}
    return {**event, "args": span.args} if span.args else event


def _plain(value: float) -> float:
    return int(value) if float(value).is_integer() else value
