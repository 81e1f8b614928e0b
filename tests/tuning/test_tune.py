"""``paddleinfer.tune`` measures settings for real, and writes a file that engines follow."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tuning_helpers import FakeBench
from zoo import Zoo

import paddleinfer
from paddleinfer import ConfigError, Engine, InvalidInput, PadAxis, PaddleInferError, TuningReport
from paddleinfer.options.tuning_file import read_tuning_file
from paddleinfer.tuning import tune as module
from paddleinfer.tuning.samples import Fell

pytest.importorskip("paddle")


@pytest.fixture
def model(zoo: Zoo, tmp_path: Path) -> Path:
    shutil.copytree(zoo.directory("mlp", zoo.formats[0]), tmp_path / "model")
    return tmp_path / "model"


class Worse(dict[str, Any]):
    def __missing__(self, key: str) -> float:
        return 50.0


def measured(monkeypatch: pytest.MonkeyPatch, figures: dict[str, Any], **bench: Any) -> None:
    """Has figures measured that are data."""
    fake = FakeBench(Worse({"defaults": 100.0, **figures}), **bench)
    monkeypatch.setattr(fake, "close_all", lambda: None, raising=False)
    monkeypatch.setattr(module, "Children", lambda order, round_s, ends_s, tell: fake)
    monkeypatch.setattr(module, "answers_of_paddle", lambda *_: [{}])
    monkeypatch.setattr(module, "usable_cores", lambda: 2)


def test_a_short_search_ends_with_a_file_that_engines_follow(model: Path) -> None:
    seconds: list[float] = []
    fixed: dict[str, Any] = {"backend": "paddle", "instances": 1, "cpu_threads": 1, "eager_deletion": False}
    report = paddleinfer.tune(
        model, seconds=30.0, callers=2, max_batch_size=8, progress=seconds.append, **fixed
    )
    assert isinstance(report, TuningReport) and seconds == sorted(seconds) and seconds
    assert report.setting is not None and report.file == str(model / "paddleinfer.toml")
    first = report.results[0]
    assert (first.setting, first.outcome, first.of_defaults) == ("defaults", "measured", 1.0)
    assert first.rows_per_s is not None and first.rows_per_s.least > 0 and first.rounds >= 1
    assert all(result.outcome == "measured" or result.reason for result in report.results)
    file = read_tuning_file(Path(report.file))
    assert file.options == report.options and (model / file.program).is_file()
    with Engine(model, max_batch_size=8) as engine:
        found = engine.effective_config()
        assert found["tuning_file"]["note"].startswith(report.file)
        for name, value in report.options.items():
            assert found[name]["value"] == value
        assert engine.infer({"x": np.ones((1, 16), "float32")})


def test_the_options_that_won_are_written_and_followed(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured(monkeypatch, {"onednn=False": 200.0, "onednn=False, instances=1": 300.0})
    report = paddleinfer.tune(model, out=tmp_path / "found.toml", callers=4, rows=2)
    assert report.options == {"backend": "paddle", "onednn": False, "instances": 1}
    assert report.gain == pytest.approx(3.0) and not (model / "paddleinfer.toml").exists()
    file = read_tuning_file(tmp_path / "found.toml")
    assert file.options == report.options
    assert file.processor == report.machine["processor"] and file.versions == report.machine["versions"]
    assert report.load == "4 callers, 2 rows each" and report.inputs == "x float32 2x16, 8 rows in turn"
    with Engine(model, tuning_file=tmp_path / "found.toml") as engine:
        assert engine.effective_config()["onednn"]["source"] == "tuned"


@pytest.mark.parametrize(
    ("given", "written"), [("onnxruntime", "onnxruntime"), ("paddle", "paddle"), ("auto", "onnxruntime")]
)
def test_the_backend_is_written_whether_it_was_given_or_found(
    model: Path, monkeypatch: pytest.MonkeyPatch, given: Any, written: str
) -> None:
    measured(monkeypatch, {"backend=onnxruntime": 200.0}, in_force={"backend": given})
    installed = {"paddle": ("paddlepaddle", "3"), "onnxruntime": ("onnxruntime", "1")}
    monkeypatch.setattr(module, "installed_runtimes", lambda: installed)
    report = paddleinfer.tune(model, backend=given)
    assert read_tuning_file(model / "paddleinfer.toml").options["backend"] == written
    assert any(result.setting == "backend=onnxruntime" for result in report.results) is (given == "auto")


def test_padding_that_won_is_read_as_it_was_written(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pad = PadAxis({"image": 2}, multiple=16, fill={"image": 0.5})
    half = PadAxis({"image": 2}, multiple=8, fill={"image": 0.5})
    measured(monkeypatch, {"pad=multiples of 8": 200.0})
    report = paddleinfer.tune(
        zoo.directory("conv", zoo.formats[0]),
        out=tmp_path / "found.toml",
        pad=pad,
        example_shapes={"image": (3, 32, 32)},
    )
    assert read_tuning_file(tmp_path / "found.toml").options["pad"] == report.options["pad"] == (half,)


def test_where_nothing_keeps_the_limits_no_file_is_written(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, {})
    report = paddleinfer.tune(model, p99_ms=0.5)
    assert (report.setting, report.file, report.options) == (None, None, {})
    assert report.goal == "throughput, p99 up to 0.5 ms"
    assert not (model / "paddleinfer.toml").exists()


def test_where_nothing_was_compared_the_file_that_is_there_stays(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, {}, left_s=0.0)
    (model / "paddleinfer.toml").write_text("kept")
    report = paddleinfer.tune(model)
    assert (report.setting, report.file) == ("defaults", None) and report.not_tried
    assert (model / "paddleinfer.toml").read_text() == "kept"


def test_a_file_elsewhere_is_not_followed_by_itself(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, {})
    assert paddleinfer.tune(model).is_followed
    assert not paddleinfer.tune(model, out=model / "other.toml").is_followed


def test_requests_for_which_there_is_no_memory_are_refused(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> object:
        raise MemoryError("no")

    monkeypatch.setattr(module, "made_up", none_left)
    with pytest.raises(ConfigError, match="there is no memory for requests of 7 rows"):
        paddleinfer.tune(model, rows=7)


def test_ctrl_c_writes_what_was_found_so_far(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(text: str, number: int) -> None:
        if "instances" in text:
            raise KeyboardInterrupt

    measured(monkeypatch, {"onednn=False": 200.0}, before=press)
    report = paddleinfer.tune(model)
    assert report.interrupted and report.setting == "onednn=False"
    assert read_tuning_file(model / "paddleinfer.toml").options["onednn"] is False


def test_the_file_that_is_there_already_is_not_followed_while_tuning(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, {})
    (model / "paddleinfer.toml").write_text("damaged")
    assert paddleinfer.tune(model).setting == "defaults"
    assert read_tuning_file(model / "paddleinfer.toml").options == {"backend": "paddle"}


def test_defaults_that_cannot_be_measured_are_one_sentence(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, {"defaults": Fell("crashed", "its process ended with SIGSEGV")})
    with pytest.raises(
        PaddleInferError, match="cannot be measured with its defaults: its process ended with"
    ):
        paddleinfer.tune(model)
    assert not (model / "paddleinfer.toml").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"goal": "speed"}, "goal must be one of"),
        ({"seconds": 0}, "seconds must be a number above 0"),
        ({"seconds": -1}, "seconds must be a finite number"),
        ({"callers": 1, "rate_per_s": 3}, "callers and rate_per_s both say"),
        ({"max_batch_size": 0}, "max_batch_size must be an integer"),
        ({"out": "/nowhere/x.toml"}, "out cannot be written to /nowhere/x.toml"),
        (
            {"inputs": {"y": np.ones((1, 16), "float32")}},
            "there are arrays for 'y', and the inputs of the model",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_before_anything_is_measured(
    model: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises((ConfigError, InvalidInput), match=sentence):
        paddleinfer.tune(model, **options)
    assert not (model / "paddleinfer.toml").exists()


def test_free_sizes_are_asked_for(zoo: Zoo) -> None:
    with pytest.raises(InvalidInput, match="example_shapes"):
        paddleinfer.tune(zoo.directory("conv", zoo.formats[0]))


def test_fewer_rows_than_a_request_has_are_repeated(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, {})
    report = paddleinfer.tune(model, {"x": np.ones((3, 16), "float32")}, rows=8)
    assert report.inputs == "x float32 8x16"


def test_a_missing_package_is_named_before_anything_is_measured(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install \"paddleinfer\[tune\]\""):
        paddleinfer.tune(model)
