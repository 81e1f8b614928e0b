"""The files of a model: parameters by name, names that are not UTF-8, and files that are not models."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from model_exports import refusal
from zoo import Zoo

import paddleinfer
from paddleinfer.cli.main import main
from paddleinfer.config import RuntimeOptions
from paddleinfer.errors import ConfigError
from paddleinfer.models import discovery
from paddleinfer.models.reader import load_spec

X = np.linspace(-1, 1, 32, dtype="float32").reshape(2, 16)


@pytest.fixture
def expected(zoo: Zoo) -> np.ndarray:
    with paddleinfer.Engine(zoo.directory("mlp", "legacy"), instances=1, onednn=False) as engine:
        return next(iter(engine.infer(X).values()))


@pytest.fixture
def two_weights(zoo: Zoo, tmp_path: Path) -> Path:
    """A program with two parameter files, neither of which is named after it; only the second is whole."""
    directory = tmp_path / "two"
    shutil.copytree(zoo.directory("mlp", "legacy"), directory)
    whole = next(directory.glob("*.pdiparams"))
    whole.rename(directory / "second.pdiparams")
    (directory / "first.pdiparams").write_bytes(b"not these")
    return directory


def answers(path: object, **options: object) -> np.ndarray:
    with paddleinfer.Engine(path, instances=1, onednn=False, **options) as engine:  # type: ignore[arg-type]
        return next(iter(engine.infer(X).values()))


def test_a_parameter_file_is_found_by_its_name_and_by_its_path(
    two_weights: Path, expected: np.ndarray, tmp_path: Path
) -> None:
    np.testing.assert_array_equal(answers(two_weights, params="second.pdiparams"), expected)
    elsewhere = shutil.move(two_weights / "second.pdiparams", tmp_path / "weights.bin")
    np.testing.assert_array_equal(answers(two_weights, params=str(elsewhere)), expected)
    with paddleinfer.Engine(two_weights, instances=1, params=str(elsewhere)) as engine:
        assert engine.effective_config()["params"] == {"value": "weights.bin", "source": "option"}


def test_the_command_takes_the_parameter_file_as_a_flag(
    two_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(two_weights), "--no-load", "--json", "--params", "second.pdiparams"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"]["paths"] == [str(two_weights / "second.pdiparams")]


def test_a_parameter_file_that_is_not_there_is_refused_with_those_that_are(two_weights: Path) -> None:
    with pytest.raises(paddleinfer.ModelLoadError, match=r"'third' is neither .*lie first.pdiparams, second"):
        load_spec(two_weights, "third")


def test_params_for_a_model_without_parameters_is_refused(zoo: Zoo) -> None:
    with pytest.raises(paddleinfer.ModelLoadError, match="has no parameters"):
        load_spec(zoo.directory("scalar", "legacy"), str(next(zoo.directory("scalar", "legacy").iterdir())))


@pytest.mark.parametrize("value", ["", 3, "a\0b"])
def test_params_is_a_name(value: object) -> None:
    with pytest.raises(ConfigError, match="params must be the name or the path of a file"):
        RuntimeOptions(params=value)  # type: ignore[arg-type]


# Names that are not UTF-8


@pytest.fixture
def latin_1(zoo: Zoo, tmp_path: Path) -> str:
    directory = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    shutil.copytree(zoo.directory("mlp", "legacy"), directory)
    return directory


@pytest.mark.parametrize("driver", ["native", "python"])
def test_a_directory_whose_name_is_not_utf_8_is_loaded(
    latin_1: str, driver: str, expected: np.ndarray
) -> None:
    np.testing.assert_array_equal(answers(latin_1, driver=driver), expected)


def test_a_json_model_may_have_such_a_name_too(zoo: Zoo, tmp_path: Path) -> None:
    directory = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    shutil.copytree(zoo.directory("mlp", zoo.formats[0]), directory)
    assert answers(directory).shape == (2, 4)


def test_what_is_said_of_such_a_name_can_be_written(latin_1: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([latin_1], [latin_1, "--json"], [f"{latin_1}/nothing"]):
        code = main(["inspect", *arguments])
        said = capsys.readouterr()
        assert code == (2 if arguments[0].endswith("nothing") else 0), said.err
        assert "caf\\udce9" in (said.out or said.err)
        (said.out + said.err).encode()
    with pytest.raises(paddleinfer.ModelLoadError) as caught:
        load_spec(f"{latin_1}/nothing")
    str(caught.value).encode()


# What is no model


@pytest.mark.parametrize(
    ("names", "suggestion"),
    [
        (("best.pdparams", "best.pdopt"), "export it with paddle.jit.save or paddleinfer.export"),
        (("best.pdopt",), "export it"),
        (("PP-OCRv4_rec.tar",), "unpack it"),
        (("model.tar.gz", "README.md"), "unpack it"),
        (("model.tgz",), "unpack it"),
        (("model.zip",), "unpack it"),
    ],
)
def test_what_is_no_model_is_refused_with_the_way_to_one(
    names: tuple[str, ...], suggestion: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"something")
    stem = tmp_path / names[0].partition(".")[0]
    for path in (tmp_path, tmp_path / names[0], stem):
        message = refusal(path)
        assert suggestion in message
        assert str(tmp_path / names[0]) in message


def test_an_onnx_model_in_a_directory_is_refused_with_the_ways_to_run_it(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"something")
    for path in (tmp_path, tmp_path / "model"):
        message = refusal(path)
        assert 'give the file itself with backend="onnxruntime"' in message
        assert "convert it with x2paddle" in message


def test_a_model_beside_its_training_weights_is_loaded(zoo: Zoo, tmp_path: Path) -> None:
    directory = tmp_path / "m"
    shutil.copytree(zoo.directory("mlp", "legacy"), directory)
    (directory / "best.pdparams").write_bytes(b"weights")
    assert load_spec(directory).parameters


def test_a_pipe_that_has_taken_a_file_s_place_is_not_waited_for(
    two_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = two_weights.glob("*.pdmodel")
    found = discovery.find(program)

    def swapped(*_: object) -> discovery.ModelFiles:
        program.unlink()
        os.mkfifo(program)
        return found

    monkeypatch.setattr(discovery, "find", swapped)
    assert f"{program} is not a regular file" in refusal(program)
