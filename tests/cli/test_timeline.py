"""``paddleinfer timeline``: its inputs, its outputs, and one sentence for each error."""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from paddleinfer import ConfigError
from paddleinfer.cli import timeline as subcommand
from paddleinfer.tracing.paddle_profile import profile_line
from paddleinfer.tracing.validate import check, spans

LINES = "\n".join(
    [
        "[2024-01-01 12:00:00] loading",
        profile_line(31, [("prepro", 1000, 1010), ("client_infer", 1010, 1100), ("op0", 1020, 1090)]),
        profile_line(31, [("prepro", 1040, 1050), ("client_infer", 1050, 1150), ("op0", 1060, 1140)]),
    ]
)
# As Paddle Serving's own tool writes it.
PADDLE_ARRAY = [
    {"name": name, "tid": 0, "pid": "31", "ts": str(ts), "ph": phase}
    for name, start, end in (("infer", 0, 80), ("infer", 40, 120), ("op0", 50, 100))
    for ts, phase in ((start, "B"), (end, "E"))
]
SOUND = {
    "traceEvents": [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": 3, "args": {"name": "callers"}},
        {"ph": "X", "name": "request", "pid": 1, "tid": 3, "ts": 0, "dur": 10},
        {"ph": "s", "name": "to", "cat": "batch", "id": 1, "pid": 1, "tid": 3, "ts": 1},
        {"ph": "C", "name": "waiting", "pid": 1, "ts": 2, "args": {"rows": 3}},
        {"ph": "X", "name": "run", "pid": 1, "tid": 3, "ts": 5, "dur": 5},
        {"ph": "f", "bp": "e", "name": "to", "cat": "batch", "id": 1, "pid": 1, "tid": 3, "ts": 6},
    ],
    "displayTimeUnit": "ms",
    "otherData": {"version": "1"},
}
needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="pictures need matplotlib"
)


def timeline(*arguments: Any) -> int:
    parser = argparse.ArgumentParser()
    subcommand.add_options(parser)
    parser.add_argument("--json", action="store_true")
    return subcommand.run(parser.parse_args([str(argument) for argument in arguments]))


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "in"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def converted(tmp_path: Path, content: Any) -> Any:
    assert timeline(written(tmp_path, content), tmp_path / "out.json") == 0
    document = json.loads((tmp_path / "out.json").read_text())
    assert check(document) == []
    return document


def test_profile_lines_become_a_sound_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = spans(converted(tmp_path, LINES))
    assert [(it.name, it.start_us) for it in found if it.name == "op0"] == [("op0", 1020), ("op0", 1060)]
    assert len({it.tid for it in found}) == 2
    assert capsys.readouterr() == ("", "")


def test_an_array_of_paddle_serving_becomes_a_sound_trace(tmp_path: Path) -> None:
    document = converted(tmp_path, PADDLE_ARRAY)
    assert [(it.name, it.pid, it.start_us, it.duration_us) for it in spans(document)] == [
        ("infer", 31, 0, 80),
        ("infer", 31, 40, 80),
        ("op0", 31, 50, 50),
    ]


def test_a_sound_trace_stays_as_it_is(tmp_path: Path) -> None:
    assert converted(tmp_path, SOUND) == SOUND
    assert converted(tmp_path, SOUND["traceEvents"])["traceEvents"] == SOUND["traceEvents"]


def test_gzip_goes_in_and_comes_out(tmp_path: Path) -> None:
    source, target = written(tmp_path, gzip.compress(LINES.encode())), tmp_path / "out.json.gz"
    assert timeline(source, target) == 0
    found = spans(json.loads(gzip.decompress(target.read_bytes())))
    assert {it.name for it in found} == {"prepro", "client_infer", "op0"}


def test_of_another_trace_slices_names_and_counters_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = json.loads(json.dumps(SOUND["traceEvents"]).replace('"pid": 1', '"pid": "engine"'))
    document = converted(tmp_path, {"traceEvents": [*events, {"ph": "X"}], "otherData": {"a": 1}})
    kinds = [(it["ph"], it["name"]) for it in document["traceEvents"] if it["name"] != "thread_sort_index"]
    assert kinds == [
        ("M", "process_name"),
        ("M", "thread_name"),
        ("X", "request"),
        ("C", "waiting"),
        ("X", "run"),
    ]
    assert document["traceEvents"][1]["args"] == {"name": "callers"} and document["otherData"] == {"a": 1}
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in told] == [
        "event 6 has no usable ts, dur or args",
        "1 of the events have the ph s, which only a valid trace keeps",
        "1 of the events have the ph f, which only a valid trace keeps",
    ]


def test_tracks_stay_in_the_order_of_their_names(tmp_path: Path) -> None:
    named = [
        {"ph": "M", "name": "thread_name", "pid": "1", "tid": tid, "args": {"name": name}}
        for tid, name in ((8, "callers"), (2, "queue"), (5, "instance"))
    ]
    slices = [{"ph": "X", "name": "run", "pid": "1", "tid": tid, "ts": tid, "dur": 1} for tid in (5, 2, 8)]
    events = converted(tmp_path, [*named, *slices])["traceEvents"]
    assert [it["args"]["name"] for it in events if it["name"] == "thread_name"] == [
        "callers",
        "queue",
        "instance",
    ]
    places = {it["tid"]: it["args"]["sort_index"] for it in events if it["name"] == "thread_sort_index"}
    assert sorted(places, key=lambda tid: places[tid]) == [8, 2, 5]


def test_an_array_whose_program_died_is_read(tmp_path: Path) -> None:
    cut = json.dumps(SOUND["traceEvents"][:2]).removesuffix("]") + ",\n"
    assert [it.name for it in spans(converted(tmp_path, cut))] == ["request"]


def test_damaged_lines_are_told_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = "\n".join(["PROFILE\tpid:1\tx_0:1"] * 12)
    converted(tmp_path, (LINES + "\n" + damaged).encode() + b"\n\xff\xfe\n")
    told = capsys.readouterr().err.splitlines()
    assert told[0].endswith("in: line 4: 'x' begins and does not end; it is left out")
    assert len(told) == 11 and told[-1].endswith("in: and 2 more of that kind")


def test_the_summary_is_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert timeline(written(tmp_path, LINES), "--summary") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["stage", "op0", "prepro", "slices", "client_infer"]
    assert lines[1].split()[1:] == ["2", "0.075", "0.075", "0.080", "0.150", "88.2%"]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_summary_is_json_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert timeline(written(tmp_path, SOUND), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["stage"] for row in document["stages"]] == ["run"]
    assert [row["stage"] for row in document["parents"]] == ["request"]


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@needs_matplotlib
def test_a_picture_has_a_row_for_each_track(tmp_path: Path) -> None:
    source = written(tmp_path, LINES)
    assert timeline(source, tmp_path / "out.json", "--png", tmp_path / "out.png") == 0
    assert check(json.loads((tmp_path / "out.json").read_text())) == []
    one = written(tmp_path, LINES.rpartition("\n")[0])
    assert timeline(one, "--png", tmp_path / "one.png") == 0
    assert png_size(tmp_path / "out.png")[1] > png_size(tmp_path / "one.png")[1]


@needs_matplotlib
def test_a_picture_has_counters_and_names_of_any_kind(tmp_path: Path) -> None:
    names = ["_hidden", "$x", "a" * 300, "\u6a21\u578b", "new\nline", *(f"stage {at}" for at in range(20))]
    slices = [
        {"ph": "X", "name": name, "pid": at % 2, "tid": at, "ts": at, "dur": at % 3}
        for at, name in enumerate(names * 4)
    ]
    counters = [{"ph": "C", "name": "$", "pid": 0, "ts": 50, "args": {"_a": 3, "b": -2}}] * 2
    source = written(tmp_path, [*slices, *counters])
    assert timeline(source, "--png", tmp_path / "out.png") == 0
    assert png_size(tmp_path / "out.png")[0] == 1100


def test_without_matplotlib_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path, LINES)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r'matplotlib must be installed to draw: pip install "paddleinfer'):
        timeline(source, tmp_path / "out.json", "--png", tmp_path / "out.png")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "in is empty: it must hold a Chrome trace in JSON or PROFILE lines of Paddle Serving"),
        (" \n", "in is empty: it must hold a Chrome trace"),
        ("text", "in has no PROFILE line and is not JSON: it must hold a Chrome trace in JSON or PROFILE"),
        (b"\x1f\x8b\x08\x00\xff", r"in is gzip that is truncated or damaged \(.*\)"),
        ('"text"', "in has no PROFILE line and is not JSON: it must hold"),
        ("{", r"in: it is not JSON at line 1, column 2 \(Expecting property name .*\); it must hold a"),
        ("[12:00] started", "in: it is not JSON at line 1, column 4 .*; it must hold a Chrome trace in JSON"),
        ("[" * 100_000, "in: is nested too deeply"),
        ('[{"ph": "X", "name": "a", "ts": NaN}]', "in: NaN is not a number in JSON; it must hold a Chrome"),
        ({"events": []}, "in: a trace must be an object with an array traceEvents; this object has no trace"),
        ([], "in: the trace must have a slice, of ph X or of B and E, and has none"),
        ([{"ph": "X"}], "and has none: event 0 has no usable ts, dur or args"),
        ("PROFILE\tpid:1\tx_0:1", "in: there is no PROFILE line with a stage that begins and ends, as .* is"),
    ],
)
def test_what_cannot_be_converted_is_said_in_one_sentence(
    tmp_path: Path, content: Any, sentence: str
) -> None:
    source = written(tmp_path, content)
    with pytest.raises(ValueError, match=sentence) as told:
        timeline(source, tmp_path / "out.json")
    assert "\n" not in str(told.value) and not (tmp_path / "out.json").exists()


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*absent: No such file or directory; it must hold"):
        timeline(tmp_path / "absent", "--summary")
    with pytest.raises(ValueError, match="must be a file, not a directory: it must hold a Chrome trace"):
        timeline(tmp_path, "--summary")
    source = written(tmp_path, LINES)
    with pytest.raises(ValueError, match=r"cannot write .*out\.json: No such file or directory"):
        timeline(source, tmp_path / "absent" / "out.json")
    with pytest.raises(ValueError, match=r"cannot write .*: Is a directory"):
        timeline(source, tmp_path)


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    source = written(tmp_path, LINES)
    for arguments, sentence in (
        ([source], "nothing to do: name a file OUT, or give --summary, --json or --png FILE"),
        ([source, "--summary", "--json"], "--summary and --json both print: give one of them"),
        ([source, source], "in would be written over itself: name another file"),
        ([source, tmp_path / "a", "--png", tmp_path / "a"], "OUT and --png must be two files, not "),
    ):
        with pytest.raises(ConfigError, match=sentence):
            timeline(*arguments)
    assert source.read_text() == LINES
