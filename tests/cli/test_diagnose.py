"""``paddleinfer diagnose``: a real model's stages, in text and JSON, and the timeline it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from zoo import Zoo

from paddleinfer.cli.main import main
from paddleinfer.models.reader import load_spec
from paddleinfer.tracing.validate import check

pytest.importorskip("paddle")


def test_a_model_s_stages_and_verdict_are_printed(zoo: Zoo, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(zoo.directory("mlp", "legacy")), "--seconds=0.3", "--callers=2"]) == 0
    out = capsys.readouterr().out
    for word in ("submit", "queue", "run", "deliver", "-bound: ", "- "):
        assert word in out


def test_json_and_the_timeline_say_the_same(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "trace.json"
    arguments = ["--json", "--seconds=0.05", f"--trace={trace}", "--trace-requests=1000000"]
    assert main(["diagnose", str(zoo.directory("mlp", "legacy")), *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"].endswith("-bound") and document["load"]["callers"] == 8
    kept = json.loads(trace.read_text())
    assert check(kept) == []
    assert kept["otherData"]["requests"] == document["requests"]


def test_a_place_for_the_timeline_that_is_not_there_is_named_before_the_load(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "no" / "trace.json"
    assert main(["diagnose", str(zoo.directory("mlp", "legacy")), f"--trace={missing}"]) == 2
    assert f"--trace cannot be written to {missing}" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
@pytest.mark.parametrize("command", ["diagnose --seconds=0.05", "bench --seconds=0.05", "run --repeat=2"])
def test_what_was_measured_is_printed_before_a_timeline_that_finds_the_disk_full(
    zoo: Zoo, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    name, *arguments = command.split()
    if name == "run":
        model = load_spec(zoo.directory("mlp", "legacy"))
        shape = [max(1, size) for size in model.inputs[0].shape]
        np.save(tmp_path / "x.npy", np.zeros(shape, model.inputs[0].dtype))
        arguments.append(f"--input={tmp_path / 'x.npy'}")
    arguments = [name, str(zoo.directory("mlp", "legacy")), *arguments, "--trace=/dev/full", "--json"]
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["trace"] is None
    assert "--trace could not be written to /dev/full (No space left on device)" in printed.err


def test_a_load_of_which_nothing_was_answered_fails_and_tells_how_its_requests_ended(
    zoo: Zoo, capsys: pytest.CaptureFixture[str]
) -> None:
    # A nanosecond: it is over before a request is in the queue, however fast the machine.
    arguments = ["--seconds=0.1", "--deadline-ms=0.000001", "--callers=2"]
    assert main(["diagnose", str(zoo.directory("mlp", "legacy")), *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("unknown: of ") and "recorded none had a result: " in printed.out
    assert "requests was answered (" in printed.err


def test_requests_that_the_queue_refuses_are_part_of_the_evidence(
    zoo: Zoo, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--seconds=0.2", "--callers=16", "--max-queue-rows=1", "--on-full=raise"]
    assert main(["diagnose", str(zoo.directory("mlp", "legacy")), *arguments]) == 0
    assert "; the queue refused " in capsys.readouterr().out


def test_an_engine_told_to_record_nothing_cannot_be_diagnosed(
    zoo: Zoo, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--seconds=0.1", "--trace-requests=0"]
    assert main(["diagnose", str(zoo.directory("mlp", "legacy")), *arguments]) == 2
    assert "trace_requests=0 records nothing" in capsys.readouterr().err
