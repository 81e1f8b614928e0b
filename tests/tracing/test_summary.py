"""The summary of a timeline has a row for each stage, and counts nothing twice."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddleinfer.tracing.document import build
from paddleinfer.tracing.events import Span
from paddleinfer.tracing.events import spans as spans_of
from paddleinfer.tracing.summary import as_json, summarise, table


def span(name: str, start_us: float, duration_us: float, tid: int = 1) -> Span:
    return Span(name, 1, tid, start_us, duration_us, {})


def request(start_us: float, queue_us: float, run_us: float, tid: int = 1) -> list[Span]:
    return [
        span("request", start_us, queue_us + run_us, tid),
        span("queue", start_us, queue_us, tid),
        span("run", start_us + queue_us, run_us, tid),
    ]


def shares(spans: list[Span]) -> dict[str, float | None]:
    return {row.stage: row.share for row in summarise(spans)}


def test_a_stage_has_its_count_times_and_share() -> None:
    rows = summarise([span("run", at * 100, 10.0 + at) for at in range(5)] + [span("queue", 50, 20)])
    assert [(row.stage, row.count, row.total_us, row.mean_us, row.p50_us) for row in rows] == [
        ("run", 5, 60, 12, 12),
        ("queue", 1, 20, 20, 20),
    ]
    assert rows[0].share == pytest.approx(0.75) and rows[0].p99_us == pytest.approx(13.96)


def test_a_request_that_holds_its_stages_adds_nothing_to_them() -> None:
    rows = summarise([*request(0, 30, 70), *request(5, 10, 90, tid=2)])
    assert [(row.stage, row.total_us, row.share, row.is_parent) for row in rows] == [
        ("run", 160, 0.8, False),
        ("queue", 40, 0.2, False),
        ("request", 200, None, True),
    ]


def test_a_request_that_holds_nothing_is_a_stage_of_its_own() -> None:
    rows = summarise([*request(0, 30, 70), span("request", 100, 100)])
    assert [(row.stage, row.count, row.is_parent) for row in rows] == [
        ("request", 1, False),
        ("run", 1, False),
        ("queue", 1, False),
        ("request", 1, True),
    ]
    assert shares([*request(0, 30, 70), span("request", 100, 100)])["run"] == 0.35


def test_slices_of_other_tracks_and_processes_hold_nothing() -> None:
    other = Span("batch", 2, 1, 0, 1000, {})
    assert shares([span("run", 10, 500), span("batch", 0, 1000, tid=2), other]) == {"batch": 0.8, "run": 0.2}


def test_all_that_is_around_a_slice_is_a_parent() -> None:
    nested = [span("call", 0, 100), span("infer", 10, 80), span("op", 20, 60)]
    assert [(row.stage, row.is_parent) for row in summarise(nested)] == [
        ("op", False),
        ("call", True),
        ("infer", True),
    ]


def test_a_slice_without_length_makes_no_other_one_a_parent() -> None:
    assert shares(request(0, 0, 50)) == {"run": 1.0, "queue": 0.0, "request": None}
    assert shares([span("run", 0, 50), span("shed", 50, 0), span("mark", 20, 0)]) == {
        "run": 1.0,
        "shed": 0.0,
        "mark": 0.0,
    }


def test_of_two_slices_of_one_extent_the_first_holds_the_other() -> None:
    assert shares([span("request", 0, 10), span("run", 0, 10)]) == {"request": None, "run": 1.0}


def test_stages_that_follow_one_another_hold_nothing_of_each_other() -> None:
    # 0.1 + 0.2 ends after 0.3, where the next one begins.
    assert shares([span("a", 0.1, 0.2), span("b", 0.3, 0.2)]) == {
        "a": pytest.approx(0.5),
        "b": pytest.approx(0.5),
    }


def test_slices_that_overlap_in_part_hold_nothing_of_each_other() -> None:
    assert shares([span("a", 0, 10), span("b", 5, 10)]) == {"a": 0.5, "b": 0.5}


def test_nothing_and_no_time_at_all_are_no_error() -> None:
    assert summarise([]) == [] and table([]).splitlines() == [
        "stage  count  mean ms  p50 ms  p99 ms  total ms  share"
    ]
    assert shares([span("a", 0, 0)]) == {"a": 0.0}


def test_the_table_is_plain_text() -> None:
    assert table(summarise([*request(0, 300, 700), *request(2_000_000, 100, 900, tid=2)])) == (
        "stage    count  mean ms  p50 ms  p99 ms  total ms  share\n"
        "run          2    0.800   0.800   0.898     1.600  80.0%\n"
        "queue        2    0.200   0.200   0.298     0.400  20.0%\n"
        "slices that hold others:\n"
        "request      2    1.000   1.000   1.000     2.000\n"
    )


def batch(start_us: float, run_us: float) -> list[Span]:
    return [span("batch", start_us, 10 + run_us, 9), span("run", start_us + 10, run_us, 9)]


def test_stages_of_requests_and_of_batches_are_told_apart() -> None:
    own = [*request(0, 30, 70), *request(0, 30, 70, tid=2), *batch(20, 70), span("mark", 500, 1)]
    rows = summarise(own)
    assert [(row.within, row.stage, row.count, row.share) for row in rows if not row.is_parent] == [
        ("request", "run", 2, 0.7),
        ("request", "queue", 2, 0.3),
        ("batch", "run", 1, 1.0),
        (None, "mark", 1, 1.0),
    ]
    lines = [line.split("  ")[0] for line in table(rows).splitlines()]
    assert lines == [
        *("stage", "in request:", "run", "queue", "in batch:", "run", "in no other slice:", "mark"),
        *("slices that hold others:", "request", "batch"),
    ]


def test_a_name_cannot_command_a_terminal() -> None:
    text = table(summarise([span("run\x1b[2J\n", 0, 1)]))
    assert "run\\x1b[2J\\n" in text and text.isascii() and "\x1b" not in text


def test_json_has_the_same_figures() -> None:
    rows = summarise(request(0, 300, 700))
    document = json.loads(as_json(rows))
    assert document["stages"][0] == {
        "stage": "run",
        "count": 1,
        "mean_us": 700.0,
        "p50_us": 700.0,
        "p99_us": 700.0,
        "total_us": 700.0,
        "share": 0.7,
        "within": None,
    }
    assert [row["stage"] for row in document["parents"]] == ["request"]
    assert not {"share", "within"} & set(document["parents"][0])


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_quantiles_are_those_of_numpy(times: list[float]) -> None:
    (row,) = summarise([span("run", 0, time, tid) for tid, time in enumerate(times)])
    assert (row.p50_us, row.p99_us) == pytest.approx(tuple(np.percentile(times, (50, 99))))


PIECES = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.integers(0, 30), st.integers(1, 2)), max_size=12
)


@given(PIECES)
def test_shares_add_up_and_every_slice_is_counted_once(pieces: list[tuple[str, int, int, int]]) -> None:
    rows = summarise(spans_of(build([[span(*piece)] for piece in pieces])))
    assert sum(row.count for row in rows) == len(pieces)
    for within in {row.within for row in rows if not row.is_parent}:
        section = [row for row in rows if not row.is_parent and row.within == within]
        whole = 1 if sum(row.total_us for row in section) else 0
        assert sum(row.share or 0 for row in section) == pytest.approx(whole)
