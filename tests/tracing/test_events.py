"""Spans are read from Chrome traces, valid or not."""

from __future__ import annotations

from typing import Any

from paddleinfer.tracing.events import Span, read, spans
from paddleinfer.tracing.validate import check


def event(phase: str, ts: float, name: str = "run", **rest: Any) -> dict[str, Any]:
    return {"ph": phase, "name": name, "pid": 1, "tid": 1, "ts": ts, **rest}


def test_slices_become_spans_by_their_start() -> None:
    events = [
        event("C", 0, "waiting", args={"rows": 4}),
        event("X", 0, "queue", dur=2.5),
        event("X", 0, "request", dur=10),
        event("B", 2.5),
        event("E", 10),
        event("X", 10, "request", dur=1),
    ]
    assert (
        spans(events)
        == spans({"traceEvents": events})
        == [
            Span("request", 1, 1, 0.0, 10.0, {}),
            Span("queue", 1, 1, 0.0, 2.5, {}),
            Span("run", 1, 1, 2.5, 7.5, {}),
            Span("request", 1, 1, 10.0, 1.0, {}),
        ]
    )


def test_a_begin_and_its_end_give_their_args_together() -> None:
    (span,) = spans([event("B", 0, args={"rows": 3, "end": "?"}), event("E", 2, args={"end": "done"})])
    assert span == Span("run", 1, 1, 0.0, 2.0, {"rows": 3, "end": "done"})


def test_times_of_paddle_serving_are_read_and_not_sound() -> None:
    array = [
        {"name": "infer", "tid": 0, "pid": "31", "ts": "1000", "ph": "B"},
        {"name": "infer", "tid": 0, "pid": "31", "ts": "1500", "ph": "E"},
        # Inside of infer, and listed after it.
        {"name": "op0", "tid": 0, "pid": "31", "ts": "1100", "ph": "B"},
        {"name": "op0", "tid": 0, "pid": "31", "ts": "1200", "ph": "E"},
        {"name": "midp", "tid": "[bow|0]", "pid": "31", "ts": "1300", "ph": "B"},
        {"name": "midp", "tid": "[bow|0]", "pid": "31", "ts": "1400", "ph": "E"},
    ]
    assert [(it.name, it.pid, it.tid, it.start_us, it.end_us) for it in spans(array)] == [
        ("infer", 31, 0, 1000, 1500),
        ("op0", 31, 0, 1100, 1200),
        ("midp", 31, "[bow|0]", 1300, 1400),
    ]
    assert "event 0 (B 'infer') must have an integer pid" in check(array)


def test_events_that_make_no_span_are_told() -> None:
    found, problems = read(
        [
            3,
            event("B", 0),
            event("E", 1, "x"),
            event("X", 1),
            event("X", 1, "", dur=1),
            event("X", 2, dur="?"),
        ]
    )
    assert found == [Span("run", 1, 1, 1.0, 0.0, {})]
    assert problems == [
        "event 0 must be an object, not an integer",
        "event 2 ends 'x', which has not begun on its track",
        "event 4 must have a name, not ''",
        "event 5 has no usable ts, dur or args",
        "event 1 begins 'run', which never ends",
    ]
