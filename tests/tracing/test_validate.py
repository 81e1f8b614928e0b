"""The strict check of Chrome traces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddleinfer.tracing.validate import Span, check, spans

Event = dict[str, Any]


def event(phase: str, ts: float, name: str = "run", **rest: Any) -> Event:
    return {"ph": phase, "name": name, "pid": 1, "tid": 1, "ts": ts, **rest}


def flow(phase: str, ts: float, **rest: Any) -> Event:
    bound = {"bp": "e"} if phase == "f" else {}
    return event(phase, ts, "to", id=7, cat="batch", **bound, **rest)


def sound() -> list[Event]:
    return [
        {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "engine"}},
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 1, "args": {"name": "callers"}},
        event("X", 0, "request", dur=10),
        event("X", 0, "queue", dur=2.5),
        flow("s", 2),
        event("B", 2.5),
        event("C", 3, "waiting", args={"rows": 4}),
        flow("t", 4),
        event("i", 4, "shed", s="t"),
        event("E", 10),
        event("X", 10, "request", dur=1),
        flow("f", 10.5),
    ]


def test_a_sound_trace_has_no_problems() -> None:
    assert check(sound()) == []
    assert check({"traceEvents": sound(), "displayTimeUnit": "ms", "otherData": {"version": "1"}}) == []
    assert check([]) == []


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("text", "a trace must be an object with traceEvents, or an array of events, not a string"),
        (None, "a trace must be an object with traceEvents, or an array of events, not None"),
        ({}, "a trace must be an object with an array traceEvents; this object has no traceEvents"),
        (
            {"traceEvents": {}},
            "a trace must be an object with an array traceEvents; "
            "this object has traceEvents that are an object",
        ),
        ({"traceEvents": [], "displayTimeUnit": "s"}, "displayTimeUnit must be ms or ns, not 's'"),
        ({"traceEvents": [], "otherData": []}, "otherData must be an object"),
        ([3], "event 0 must be an object, not an integer"),
    ],
)
def test_what_is_no_trace_is_said_in_one_sentence(document: Any, sentence: str) -> None:
    assert check(document) == [sentence]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"ph": "Q"}, "must have a ph that is one of M, X, B, E, C, i, s, t, f"),
        ({"ph": None}, "must have a ph that is one of"),
        ({"ph": ["X"]}, "must have a ph that is one of"),
        ({"pid": "1"}, "must have an integer pid"),
        ({"tid": True}, "must have an integer tid"),
        ({"tid": 1.0}, "must have an integer tid"),
        ({"ts": "5"}, "must have a ts that is a number, not '5'"),
        ({"ts": float("nan")}, "must have a ts that is a number, not nan"),
        ({"ts": 10**400}, "must have a ts that is a number"),
        ({"ts": None}, "must have a ts that is a number, not None"),
        ({"name": ""}, "must have a name"),
        ({"name": 3}, "must have a name"),
        ({"args": [1]}, "must have args that are an object"),
        ({"cat": 1}, "must have a cat that is a string"),
        ({"dur": -1}, "must have a dur of 0 or more"),
        ({"dur": None}, "must have a dur of 0 or more"),
        ({"dur": float("inf")}, "must have a dur of 0 or more"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(change: Event, sentence: str) -> None:
    (problem,) = check([{**event("X", 0, dur=1), **change}])
    assert problem.startswith("event 0 (") and sentence in problem


@pytest.mark.parametrize("missing", ["ph", "pid", "tid", "ts", "name", "dur"])
def test_a_field_that_is_missing_is_named(missing: str) -> None:
    whole = event("X", 0, dur=1)
    del whole[missing]
    (problem,) = check([whole])
    assert missing in problem


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        ([event("B", 0)], "'run' on pid 1, tid 1 begins and never ends"),
        ([event("E", 0)], "event 0 (E 'run') ends what has not begun on its track"),
        ([event("B", 0), event("E", 1, tid=2), event("E", 1)], "event 1 (E 'run') ends what has not begun"),
        ([event("B", 0), event("E", 1, "other")], "event 1 (E 'other') ends 'run', which began last"),
        ([event("X", 5, dur=1), event("X", 4, dur=1)], "event 1 (X 'run') comes after an event with a later"),
        ([event("C", 0)], "event 0 (C 'run') must have args that are numbers"),
        ([event("C", 0, args={"rows": "4"})], "event 0 (C 'run') must have args that are numbers"),
        ([event("i", 0, s="x")], "event 0 (i 'run') must have an s of g, p or t"),
        ([event("M", 0, "thread_name", args={})], "must have args with name, a string"),
        ([event("M", 0, "thread_sort_index", args={"sort_index": "1"})], "with sort_index, an integer"),
        ([event("M", 0, "colour", args={})], "must be one of process_name, thread_name"),
    ],
)
def test_a_broken_rule_of_a_phase_is_found(events: list[Event], sentence: str) -> None:
    (problem,) = check(events)
    assert sentence in problem


def test_an_end_before_its_begin_is_found() -> None:
    problems = check([event("B", 5), event("E", 4)])
    assert "event 1 (E 'run') ends 'run' before it begins" in problems


def test_an_end_may_leave_its_name_out() -> None:
    end = event("E", 1)
    del end["name"]
    assert check([event("B", 0), end]) == []


@pytest.mark.parametrize("phases", ["X", "BE"])
def test_slices_of_a_track_that_overlap_in_part_are_found(phases: str) -> None:
    second = event("X", 5, "late", dur=10)
    first = [event("X", 0, dur=10)] if phases == "X" else [event("B", 0)]
    last = [event("E", 10)] if phases == "BE" else []
    (problem,) = check([*first, second, *last])
    assert problem == "'late' on pid 1, tid 1 from 5 us ends after 'run', in which it begins"
    assert check([*first, {**second, "tid": 2}, *last]) == []


def test_sums_of_floats_do_not_count_as_an_overlap() -> None:
    # In binary, 0.1 + 0.2 ends after 0.3.
    assert check([event("X", 0, "request", dur=0.3), event("X", 0.1, dur=0.2)]) == []
    start = 1.7e15 + 0.25
    assert check([event("X", start, dur=0.3), event("X", start + 0.25, "next", dur=0.3)]) == []


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        ([flow("s", 1)], "must have one s and one f, not 1 and 0"),
        ([flow("f", 1)], "must have one s and one f, not 0 and 1"),
        ([flow("s", 1), flow("s", 1), flow("f", 2)], "must have one s and one f, not 2 and 1"),
        ([flow("f", 1), flow("s", 2)], "has its f before its s"),
        ([flow("t", 1), flow("s", 2), flow("f", 2)], "has a t outside of s and f"),
        ([flow("s", 1), flow("f", 11)], "event 2 (f 'to') lies in no slice of its track"),
        ([flow("s", 1), flow("f", 2, tid=2)], "event 2 (f 'to') lies in no slice of its track"),
        ([flow("s", 1), {**flow("f", 2), "bp": "x"}], 'must have a bp that is "e"'),
        ([{**flow("s", 1), "id": None}, flow("s", 1), flow("f", 2)], "event 1 (s 'to') must have an id"),
    ],
)
def test_a_broken_flow_is_found(events: list[Event], sentence: str) -> None:
    (problem,) = check([event("X", 0, dur=10), *events])
    assert sentence in problem


@pytest.mark.parametrize("other", [{"id": 8}, {"cat": "other"}, {"name": "from"}])
def test_flows_match_by_id_category_and_name(other: Event) -> None:
    problems = check([event("X", 0, dur=10), flow("s", 1), {**flow("f", 2), **other}])
    assert len(problems) == 2 and all("must have one s and one f" in problem for problem in problems)


def test_a_flow_may_touch_the_edge_of_a_slice() -> None:
    assert check([event("X", 0, dur=1), flow("s", 1), event("X", 2, dur=1), flow("f", 2)]) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["X", "B", "E", "s", "f", "e"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["ph", "pid", "tid", "ts", "dur", "name", "id", "bp", "args", "traceEvents"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.lists(st.builds(dict, ph=JSON, pid=JSON, tid=JSON, ts=JSON, dur=JSON, name=JSON), max_size=3))
def test_whatever_json_holds_gets_sentences_and_no_exception(value: Any, events: list[Event]) -> None:
    for document in (value, [value], events):
        assert all(isinstance(problem, str) for problem in check(document))
        if isinstance(document, list):
            assert all(isinstance(span, Span) for span in spans(document))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=8))
def test_an_overlap_is_found_whenever_there_is_one(pairs: list[tuple[int, int]]) -> None:
    events = [event("X", start, dur=length) for start, length in sorted(pairs)]
    crossing = any(
        a["ts"] < b["ts"] < a["ts"] + a["dur"] < b["ts"] + b["dur"] for a in events for b in events
    )
    assert bool(check(json.loads(json.dumps(events)))) == crossing
