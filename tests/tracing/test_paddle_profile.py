"""PROFILE lines of Paddle Serving: how they are read, converted and written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddleinfer.tracing.paddle_profile import profile_line, read, to_chrome
from paddleinfer.tracing.validate import Span, check, spans

EPOCH = 1_700_000_000_000_000
CLIENT = (
    "PROFILE\tpid:31\tprepro_0:1000 prepro_1:1010 client_infer_0:1020 client_infer_1:1100 "
    "op0_0:1030 op0_1:1040 op1_0:1040 op1_1:1080 postpro_0:1100 postpro_1:1105 "
)
PIPELINE = (
    "PROFILE\tpid:7\tcall_0#DAG_0:10 call_0#DAG_1:90 prepack_0#@DAGExecutor_0:5 prepack_0#@DAGExecutor_1:9 "
    "call_1#DAG_0:20 call_1#DAG_1:60 midp#[bow|0]_0:30 midp#[bow|0]_1:50"
)


def names(document: dict[str, Any]) -> list[str]:
    """Of the tracks."""
    return [it["args"]["name"] for it in document["traceEvents"] if it["name"] == "thread_name"]


def stages(lines: list[str]) -> list[tuple[str, float, float]]:
    return [(it.name, it.start_us, it.end_us) for line in read(lines).lines for it in line]


def test_the_stages_of_a_line_are_read() -> None:
    assert stages([CLIENT]) == [
        ("prepro", 1000, 1010),
        ("client_infer", 1020, 1100),
        ("op0", 1030, 1040),
        ("op1", 1040, 1080),
        ("postpro", 1100, 1105),
    ]


def test_other_lines_do_not_matter() -> None:
    around = ["I0101 12:00:00 loading", "", CLIENT + "\r\n", "a PROFILE of the model", "PROFILES: 3"]
    assert stages(around) == stages([CLIENT]) and read(around).problems == []


def test_a_line_of_nothing_is_not_damaged() -> None:
    assert read(["PROFILE\tpid:31\t", "PROFILE\tpid:31"]).problems == []


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("PROFILE\tpid:x\ta_0:1 a_1:2", "must begin with PROFILE, a tab, pid:<number> and a tab; it is left"),
        ("PROFILE\ta_0:1 a_1:2", "must begin with PROFILE, a tab, pid:<number> and a tab; it is left out"),
        ("lostPROFILE\tpid:1\ta_0:1 a_1:2", "must begin with PROFILE, a tab, pid:<number> and a tab; it is"),
        ("PROFILE\tpid:1\tb_2:7", ": 'b_2:7' must be <stage>_0:<microseconds> or <stage>_1:<microseconds>;"),
        ("PROFILE\tpid:1\tb_0:x", ": 'b_0:x' must be <stage>_0:<microseconds> or <stage>_1:<microseconds>;"),
        ("PROFILE\tpid:1\t_0:5", ": '_0:5' must be <stage>_0:<microseconds> or <stage>_1:<microseconds>; it"),
        ("PROFILE\tpid:1\tb_0:9999999999999999", ": 'b_0:9999999999999999' must be <stage>_0:<microseconds>"),
        ("PROFILE\tpid:1\tb_0:7", ": 'b' begins and does not end; it is left out"),
        ("PROFILE\tpid:1\tb_1:7", ": 'b' ends without having begun; it is left out"),
        ("PROFILE\tpid:1\tb_0:7 b_1:4", ": 'b' ends 3 us before it begins; it is left out"),
    ],
)
def test_damage_is_told_by_its_line_and_the_rest_is_read(line: str, sentence: str) -> None:
    profile = read([CLIENT, "other", line])
    assert len(profile.problems) == 1 and profile.problems[0].startswith("line 3")
    assert sentence in profile.problems[0]
    kept = read(["x", f"{line} kept_0:1 kept_1:2"])
    assert [it.name for it in (kept.lines or [[]])[0]] == ([] if "must begin" in sentence else ["kept"])
    assert to_chrome([CLIENT, "other", line])["otherData"]["left_out"] == profile.problems


def test_a_stage_that_ran_twice_is_two() -> None:
    assert stages(["PROFILE\tpid:1\trun_0:1 run_1:2 run_0:3 run_1:5"]) == [("run", 1, 2), ("run", 3, 5)]


def test_a_line_becomes_a_sound_trace() -> None:
    document = to_chrome([CLIENT])
    assert check(document) == [] and names(document) == ["stages"]
    assert [(it.name, it.pid, it.start_us, it.end_us) for it in spans(document)] == [
        ("prepro", 31, 1000, 1010),
        ("client_infer", 31, 1020, 1100),
        ("op0", 31, 1030, 1040),
        ("op1", 31, 1040, 1080),
        ("postpro", 31, 1100, 1105),
    ]


def test_stages_of_a_pipeline_have_the_tracks_that_their_names_say() -> None:
    document = to_chrome([PIPELINE])
    assert check(document) == []
    assert names(document) == ["DAG", "DAG (2)", "@DAGExecutor", "[bow|0]"]
    assert [(it.name, it.args) for it in spans(document)] == [
        ("prepack", {"request": 0}),
        ("call", {"request": 0}),
        ("call", {"request": 1}),
        ("midp", {}),
    ]


def test_requests_at_once_keep_their_stages_side_by_side() -> None:
    slow = profile_line(1, [("prepro", 0, 10), ("infer", 10, 80), ("postpro", 80, 90)])
    quick = profile_line(1, [("prepro", 20, 30), ("infer", 30, 60), ("postpro", 60, 70)])
    document = to_chrome([quick, slow])
    assert check(document) == [] and names(document) == ["stages", "stages (2)"]
    by_track: dict[Any, list[float]] = {}
    for span in spans(document):
        by_track.setdefault(span.tid, []).append(span.start_us)
    assert sorted(by_track.values()) == [[0, 10, 80], [20, 30, 60]]


def test_what_a_python_client_says_is_around_what_its_core_says() -> None:
    outer = profile_line(1, [("py_prepro", 0, 5), ("py_client_infer", 5, 95), ("py_postpro", 95, 99)])
    inner = profile_line(1, [("prepro", 6, 10), ("client_infer", 10, 90), ("postpro", 90, 94)])
    assert names(to_chrome([inner, outer])) == ["stages"]


def test_the_clocks_of_processes_stay_as_they_are() -> None:
    lines = [profile_line(pid, [("run", EPOCH + pid, EPOCH + 9)]) for pid in (1, 2)]
    assert [(it.pid, it.start_us) for it in spans(to_chrome(lines))] == [(1, EPOCH + 1), (2, EPOCH + 2)]


@pytest.mark.parametrize(
    ("lines", "end"),
    [
        ([], "is set"),
        (["text"], "is set"),
        (["PROFILE\tpid:1\tb_0:7"], "set: line 1: 'b' begins and does not"),
    ],
)
def test_no_profile_line_is_one_sentence(lines: list[str], end: str) -> None:
    with pytest.raises(ValueError, match="there is no PROFILE line with a stage that begins and ends") as it:
        to_chrome(lines)
    assert end in str(it.value) and "\n" not in str(it.value)


@pytest.mark.parametrize(
    ("pid", "stage", "sentence"),
    [
        (-1, ("a", 1, 2), "a pid must be an integer from 0"),
        (True, ("a", 1, 2), "a pid must be an integer from 0"),
        (1, ("", 1, 2), "must be a word without white space, not ''"),
        (1, ("a b", 1, 2), "must be a word without white space, not 'a b'"),
        (1, ("a\t", 1, 2), "must be a word without white space"),
        (1, ("a", 2, 1), "a must not end before it begins, as it does by 1 us"),
        (1, ("a", 0.5, 1), "a time of a must be an integer of microseconds since the epoch, not 0.5"),
        (1, ("a", 0, 1 << 53), "a time of a must be an integer of microseconds since the epoch"),
    ],
)
def test_a_line_that_nobody_could_read_is_not_written(pid: int, stage: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        profile_line(pid, [stage])


def paddle_serving_reads(line: str) -> list[tuple[str, str, str, str]]:
    """Name, track, time and phase, by the rules of Paddle Serving's own tool."""
    _, _, times = line.strip().split("\t")
    events = []
    for word in times.split(" "):
        name, time_us = word.split(":")
        stage, _, suffix = name.rpartition("_")
        stage, _, track = stage.rpartition("#") if "#" in stage else (stage, "", "0")
        events.append((stage, track, time_us, "B" if suffix == "0" else "E"))
    return events


def test_tools_of_paddle_serving_read_a_written_line() -> None:
    assert paddle_serving_reads(profile_line(3, [("bert_pre", 1, 2), ("midp#[bow|0]", 2, 4)])) == [
        ("bert_pre", "0", "1", "B"),
        ("bert_pre", "0", "2", "E"),
        ("midp", "[bow|0]", "2", "B"),
        ("midp", "[bow|0]", "4", "E"),
    ]


WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"], exclude_characters="#"),
    min_size=1,
    max_size=8,
)
TIMES = st.tuples(st.integers(EPOCH, EPOCH + 100), st.integers(0, 50))
STAGES = st.lists(st.tuples(WORDS, st.none() | WORDS, TIMES), min_size=1, max_size=8)


def lines_of(requests: list[list[tuple[str, str | None, tuple[int, int]]]]) -> list[str]:
    return [
        profile_line(
            number,
            [
                (name if track is None else f"{name}#{track}", at, at + us)
                for name, track, (at, us) in request
            ],
        )
        for number, request in enumerate(requests)
    ]


@given(st.lists(STAGES, min_size=1, max_size=4))
def test_what_is_written_is_read_again(requests: list[Any]) -> None:
    profile = read(lines_of(requests))
    assert profile.problems == []
    assert profile.lines == [
        [Span(name, number, track or "stages", at, us, {}) for name, track, (at, us) in request]
        for number, request in enumerate(requests)
    ]


@given(st.lists(STAGES, min_size=1, max_size=4))
def test_whatever_overlaps_becomes_a_sound_trace_of_the_same_slices(requests: list[Any]) -> None:
    document = to_chrome(lines_of(requests))
    assert check(document) == []
    assert sorted((it.name, it.pid, it.start_us, it.duration_us) for it in spans(document)) == sorted(
        (name, number, at, us) for number, request in enumerate(requests) for name, _, (at, us) in request
    )


@given(st.lists(st.text("PROFILE\tpid:1 a_0#\n", max_size=40)))
def test_whatever_a_file_holds_is_read_or_told(lines: list[str]) -> None:
    read(["PROFILE\tpid:1\t" + line for line in lines] + lines)
