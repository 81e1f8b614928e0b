"""Writes requests and runs as a document of the Chrome Trace Event Format, which Perfetto opens.

Format: "Trace Event Format", https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import merge
from typing import Any, NamedTuple

from paddleinfer.tracing.lanes import in_lanes
from paddleinfer.tracing.records import TracedRequest, TracedRun

__all__ = ["Activity", "chrome_trace"]

# An instance's track is its number plus 1, as a rule; overlapping runs get tracks from here on.
_FIRST_REQUEST_TRACK = 1000
_FIRST_OUTER_TRACK = 100_000
_SORTED_AT_ONCE = 8192

Stages = Sequence[tuple[str, int, int]]
"""(stage, begin, end) in nanoseconds, in order."""


class Activity(NamedTuple):
    """The requests and runs of one engine."""

    label: str
    requests: Sequence[TracedRequest]
    runs: Sequence[TracedRun]
    lost_requests: int = 0
    outer: Sequence[Stages] = ()
    """The stages of requests outside the engine, in a server or a service."""
    outer_kind: str = "http"
    """What these are: "http" or "service" requests."""


def chrome_trace(*activities: Activity) -> dict[str, Any]:
    """Makes the document. Each engine has a track per instance with its runs, tracks of requests with their
    stages, a flow from each request to the run that gave its result, and the queue's depth as a counter.
    Timestamps are microseconds since the first event.
    """
    begins = [r.called_ns for activity in activities for r in activity.requests]
    begins += [r.began_ns for activity in activities for r in activity.runs]
    begins += [stages[0][1] for activity in activities for stages in activity.outer]
    events = _Events(min(begins, default=0))
    names: list[dict[str, Any]] = []
    for pid, activity in enumerate(activities, start=1):
        events.pid = pid
        names += _names(pid, activity.label, _add(events, activity))
    return {
        "traceEvents": [*names, *events.in_order()],
        "displayTimeUnit": "ms",
        "otherData": {
            "requests": sum(len(activity.requests) for activity in activities),
            "runs": sum(len(activity.runs) for activity in activities),
            "lost_requests": sum(activity.lost_requests for activity in activities),
        },
    }


def _add(events: _Events, activity: Activity) -> dict[int, str]:
    """Adds the events of one engine; returns its tracks and their names."""
    track_of, tracks = _tracks_of_runs(activity.runs)
    waiting = None
    for run in sorted(activity.runs, key=lambda run: run.scatter_end_ns):
        _add_run(events, track_of[run.number], run)
        if run.queued_requests != waiting:  # the value stays until the next one
            waiting = run.queued_requests
            events.counter(run.scatter_end_ns, "queued requests", waiting)
    runs = {run.number: run for run in activity.runs}
    for lane, request in in_lanes((r.called_ns, r.delivered_ns, r) for r in activity.requests):
        tracks[_FIRST_REQUEST_TRACK + lane] = f"requests {lane}"
        track, ran = _FIRST_REQUEST_TRACK + lane, runs.get(request.run)
        _add_request(events, track, request, ran, track_of.get(request.run, 0))
    for lane, stages in in_lanes((stages[0][1], stages[-1][2], stages) for stages in activity.outer):
        track = _FIRST_OUTER_TRACK + lane
        tracks[track] = f"{activity.outer_kind} {lane}"
        events.slice(track, f"{activity.outer_kind} request", stages[0][1], stages[-1][2], 0)
        for stage, begin, end in stages:
            events.slice(track, stage, begin, end, 1)
    return tracks


def _tracks_of_runs(runs: Sequence[TracedRun]) -> tuple[dict[int, int], dict[int, str]]:
    """Returns the track of each run, by its number, and the tracks' names.

    During a reload two models have an instance of the same number, whose runs may overlap.
    """
    instances = 1 + max((run.instance for run in runs), default=0)
    track_of: dict[int, int] = {}
    names: dict[int, str] = {}
    for instance in range(instances):
        own = ((run.began_ns, run.scatter_end_ns, run) for run in runs if run.instance == instance)
        for lane, run in in_lanes(own):
            track = track_of[run.number] = 1 + instance + lane * instances
            names[track] = f"instance {instance}" + (", of another model" if lane else "")
    return track_of, names


class _Events:
    """Collects events, and sorts them: by time, outer slices before inner ones, flows after slices."""

    def __init__(self, zero_ns: int) -> None:
        self.pid = 0
        """The process id of the engine whose events come next."""
        self._zero_ns = zero_ns
        self._flows = 0
        # Keys and events are kept apart: pairs would be more objects for the garbage collector to visit.
        self._keys: list[tuple[int, int, int]] = []
        self._events: list[dict[str, Any]] = []

    def slice(self, track: int, name: str, begin_ns: int, end_ns: int, depth: int, **args: object) -> None:
        """Adds a slice to a track; `depth` tells which of two equal ones holds the other."""
        event = {"ph": "X", "name": name, "dur": (end_ns - begin_ns) / 1e3}
        if args:
            event["args"] = args
        self._add(begin_ns, -(end_ns - begin_ns), depth, track, event)

    def flow(self, track: int, to_track: int, at_ns: int) -> None:
        """Adds an arrow from a request to its run."""
        self._flows += 1  # counted over all engines, because ids are shared by all processes
        arrow = {"name": "runs in", "id": self._flows}
        self._add(at_ns, 1, 0, track, {"ph": "s", **arrow})
        # "e": the arrow ends at the slice around it, not at the next one.
        self._add(at_ns, 1, 1, to_track, {"ph": "f", "bp": "e", **arrow})

    def counter(self, at_ns: int, name: str, value: int) -> None:
        """Adds a counter's value from a time on."""
        self._add(at_ns, 2, 0, None, {"ph": "C", "name": name, "args": {"requests": value}})

    def in_order(self) -> list[dict[str, Any]]:
        """Returns all events, sorted."""
        # A single sort of all events would hold the GIL all the while.
        key, count = self._keys.__getitem__, len(self._keys)
        pieces = (
            range(begin, min(begin + _SORTED_AT_ONCE, count)) for begin in range(0, count, _SORTED_AT_ONCE)
        )
        return [
            self._events[place] for place in merge(*(sorted(piece, key=key) for piece in pieces), key=key)
        ]

    def _add(self, at_ns: int, rank: int, depth: int, track: int | None, event: dict[str, Any]) -> None:
        event.update(ts=(at_ns - self._zero_ns) / 1e3, pid=self.pid)
        if track is not None:
            event["tid"] = track
        self._keys.append((at_ns, rank, depth))
        self._events.append(event)


def _add_run(events: _Events, track: int, run: TracedRun) -> None:
    events.slice(
        track,
        "batch",
        run.began_ns,
        run.scatter_end_ns,
        0,
        run=run.number,
        rows=run.rows,
        padded_rows=run.padded_rows,
        requests=run.requests,
        reason=run.reason,
        failed=run.failed,
    )
    events.slice(track, "gather", run.began_ns, run.gather_end_ns, 1)
    events.slice(track, "run", run.gather_end_ns, run.run_end_ns, 1)
    events.slice(track, "scatter", run.run_end_ns, run.scatter_end_ns, 1)


def _add_request(
    events: _Events, track: int, request: TracedRequest, run: TracedRun | None, run_track: int
) -> None:
    begin, end = request.called_ns, request.delivered_ns
    args = {"request": request.number, "rows": request.rows, "outcome": request.outcome, "run": request.run}
    events.slice(track, "request", begin, end, 0, **args)
    for stage, stage_begin, stage_end in request.stages():
        if stage_end > stage_begin:  # a hold without duration would be drawn below its neighbours
            events.slice(track, stage, stage_begin, stage_end, 1)
    if run is not None and run.run_end_ns > 0 and begin <= run.run_end_ns <= end:
        events.flow(track, run_track, run.run_end_ns)


def _names(pid: int, label: str, tracks: dict[int, str]) -> list[dict[str, Any]]:
    process = {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": label}}
    return [
        process,
        *(
            {"ph": "M", "name": "thread_name", "pid": pid, "tid": track, "args": {"name": name}}
            for track, name in sorted(tracks.items())
        ),
    ]
