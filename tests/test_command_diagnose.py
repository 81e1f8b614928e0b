"""``paddleinfer diagnose``: a real model's stages, in text and JSON, and the timeline it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from zoo import Zoo

from paddleinfer.chrome_trace import check
from paddleinfer.command import main

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


def test_an_engine_told_to_record_nothing_cannot_be_diagnosed(
    zoo: Zoo, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--seconds=0.1", "--trace-requests=0"]
    assert main(["diagnose", str(zoo.directory("mlp", "legacy")), *arguments]) == 2
    assert "trace_requests=0 records nothing" in capsys.readouterr().err
