"""``paddleinfer tune``: its table, its picture, JSON, exit codes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import said
from tuning_helpers import sample
from zoo import Zoo

from paddleinfer.cli import tune as command
from paddleinfer.cli.main import main
from paddleinfer.tuning.report import SettingResult, TuningReport
from paddleinfer.tuning.samples import Fell
from paddleinfer.tuning.search import Tried
from paddleinfer.tuning.settings import Setting

pytest.importorskip("paddle")


@pytest.fixture
def model(zoo: Zoo, tmp_path: Path) -> Path:
    shutil.copytree(zoo.directory("mlp", zoo.formats[0]), tmp_path / "model")
    return tmp_path / "model"


def report(setting: str | None = "onednn=False", **changes: Any) -> TuningReport:
    tried = [
        Tried(Setting(), [sample(100), sample(90), sample(95)], 1.0),
        Tried(Setting({"onednn": False}), [sample(200), sample(210), sample(190)], 2.1),
        Tried(Setting({"cpu_threads": 2})),
        Tried(Setting({"instances": 1}), fell=Fell("crashed", "its process ended with SIGSEGV")),
    ]
    given = {
        "path": "m",
        "goal": "throughput",
        "load": "8 callers, 1 row each",
        "inputs": "x float32 1x16",
        "machine": {"processor": "P", "cores": 2, "versions": {"paddlepaddle": "3"}},
        "setting": setting,
        "options": {},
        "gain": 2.1,
        "results": tuple(map(SettingResult.of, tried)),
        "not_tried": (),
        "interrupted": False,
        "seconds": 3.0,
        "file": "m/paddleinfer.toml",
        "is_followed": True,
    }
    return TuningReport(**{**given, **changes})


def tuned(monkeypatch: pytest.MonkeyPatch, found: TuningReport) -> list[tuple[Any, ...]]:
    """Has the search find this; returns what it was asked."""
    asked: list[tuple[Any, ...]] = []

    def tune(*arguments: Any, **options: Any) -> TuningReport:
        asked.append((arguments, options))
        return found

    monkeypatch.setattr(command, "tune", tune)
    return asked


def test_a_table_has_every_setting_with_its_spread_and_marks_the_one_that_won(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    tuned(monkeypatch, report())
    assert main(["tune", str(model)]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    (defaults,) = [line for line in lines if line.strip().startswith("defaults")]
    (won,) = [line for line in lines if line.strip().startswith("* onednn=False")]
    (crashed,) = [line for line in lines if "instances=1" in line]
    assert "95 (90-100)" in defaults and "2.10" in won and "200 (190-210)" in won
    assert any(line.split()[:2] == ["cpu_threads=2", "not"] for line in lines)
    assert "crashed" in crashed and crashed.endswith("its process ended with SIGSEGV")
    assert "onednn=False: 2.10 times as good as the defaults" in out
    assert out.endswith("written to m/paddleinfer.toml, which engines of this model follow\n")


@pytest.mark.parametrize(
    ("found", "code", "sentence"),
    [
        (report("defaults", gain=1.0), 0, "nothing is better than the defaults beyond the noise"),
        (report(None, file=None), 1, "no setting keeps the limits, so no file was written"),
        (report("defaults", file=None), 1, "nothing was compared with the defaults, so no file was written"),
        (report(is_followed=False), 0, "follow with --tuning-file or tuning_file='m/paddleinfer.toml'"),
        (report(interrupted=True), 130, "the search was cut short, and this is the best until then"),
        (report(not_tried=("padding",)), 0, "there was no time for: padding; --seconds gives more"),
    ],
)
def test_the_conclusion_is_a_sentence_and_an_exit_code(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    model: Path,
    found: TuningReport,
    code: int,
    sentence: str,
) -> None:
    tuned(monkeypatch, found)
    assert main(["tune", str(model)]) == code
    assert sentence in capsys.readouterr().out


def test_flags_say_goal_load_and_inputs(monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path) -> None:
    asked = tuned(monkeypatch, report())
    np.savez(tmp_path / "x.npz", x=np.ones((5, 16), "float32"))
    arguments = [
        "--goal",
        "latency",
        "--p99-ms",
        "5",
        "--max-memory",
        "1000",
        "--callers",
        "3",
        "--rows",
        "2",
    ]
    more = ["--inputs", str(tmp_path / "x.npz"), "--seconds", "7", "--out", "o.toml", "--instances", "2"]
    assert main(["tune", str(model), *arguments, *more]) == 0
    (((path, inputs, config), options),) = asked
    assert path == model and inputs["x"].shape == (5, 16) and config.runtime.instances == 2
    del options["progress"]
    assert options == {
        "goal": "latency",
        "p99_ms": 5.0,
        "memory_limit_bytes": 1000,
        "callers": 3,
        "rate_per_s": None,
        "recording": None,
        "rows": 2,
        "seconds": 7.0,
        "out": Path("o.toml"),
    }


def test_json_is_the_report_and_the_picture_is_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path
) -> None:
    tuned(monkeypatch, report())
    picture = tmp_path / "p.png"
    assert main(["tune", str(model), "--json", "--png", str(picture)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["setting"] == "onednn=False" and document["png"] == str(picture)
    assert document["results"][1]["rows_per_s"] == {"median": 200, "least": 190, "most": 210}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_is_wrong_is_one_sentence(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    assert "--goal" in said(capsys, 2, "tune", model, "--goal", "speed")
    assert "not allowed with" in said(capsys, 2, "tune", model, "--rate", "1", "--callers", "2")
    assert "cannot read" in said(capsys, 2, "tune", model, "--recording", tmp_path / "none")
    assert "does not exist" in said(capsys, 2, "tune", tmp_path / "none")
    assert "must end in .png" in said(capsys, 2, "tune", model, "--png", tmp_path / "x.jpg")
    assert "out cannot be written" in said(capsys, 2, "tune", model, "--out", tmp_path / "none/x.toml")
