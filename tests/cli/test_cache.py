"""``paddleinfer cache`` shows and removes converted models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddleinfer.backends.onnx.cache import ModelCache
from paddleinfer.cli.main import main

KEY = f"{7:032x}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    about = {"source": "/models/det", "paddle": "paddlepaddle 3.3.1", "paddle2onnx": "2.1.0", "opset": 17}
    cache = ModelCache(tmp_path / "cache", 1 << 30)
    with cache.holding(KEY, about, lambda path: path.write_bytes(b"x" * 1000) and None):
        pass
    return tmp_path / "cache"


def test_the_models_are_listed_with_their_origin(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list", "--onnx-cache", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"{folder}: 1 model, 1," in out and "/models/det" in out and "paddle2onnx 2.1.0" in out


def test_the_variable_of_the_option_names_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PADDLEINFER_ONNX_CACHE", str(folder))
    assert main(["cache", "list", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["folder"] == str(folder)
    assert [one["source"] for one in document["models"]] == ["/models/det"]


def test_the_models_are_removed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "clear", "--onnx-cache", str(folder), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["key"] for one in document["removed"]] == [KEY] and document["in_use"] == []
    assert list(folder.iterdir()) == []
    assert main(["cache", "clear", "--onnx-cache", str(folder)]) == 0
    assert "removed 0 models, 0 bytes" in capsys.readouterr().out


def test_a_model_in_use_is_kept_and_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with ModelCache(folder, 1 << 30).holding(KEY, {}, lambda path: None):
        assert main(["cache", "clear", "--onnx-cache", str(folder)]) == 0
    assert "kept 1 model, 1," in capsys.readouterr().out


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["cache", "list", "--onnx-cache", str(tmp_path / "file")]) == 2
    assert "converted models cannot be kept in" in capsys.readouterr().err
