"""Paths, directories and files that are not models get one sentence each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from model_exports import Exports, refusal

pytestmark = pytest.mark.paddle3  # the models are exported by it


# No model, or several


def test_paths_that_name_nothing_are_refused(exports: Exports, tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "missing" / "model")
    mlp = exports.root / "json" / "mlp"
    message = refusal(mlp / "interference")
    assert "does not exist" in message
    assert "inference.json, inference.pdiparams" in message
    assert "does not exist" in refusal(mlp / "inference.json" / "x")
    assert "not a path" in refusal("")
    assert "not a path" in refusal("a\0b")
    assert "not NoneType" in refusal(None)
    assert "not int" in refusal(3)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    assert "is empty" in refusal(tmp_path)


def test_a_directory_without_a_model_lists_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "inference").mkdir()
    for name in ("a.txt", "b.bin", "weights.bin", "d", "e", "f", "g"):
        (tmp_path / name).touch()
    message = refusal(tmp_path)
    assert "a.txt, b.bin, d, e, f and 3 more" in message
    assert ".json or .pdmodel" in message


def test_a_directory_whose_only_json_is_foreign_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "resnet"}')
    assert "config.json is not a Paddle program" in refusal(tmp_path)
    assert "is JSON but not a Paddle program" in refusal(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("")
    assert "config.json is empty" in refusal(tmp_path)


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    for name in ("notes.txt", "lost.pdiparams", "__params__"):
        (tmp_path / name).write_text("x")
        assert "is not a program file" in refusal(tmp_path / name)


def test_several_models_in_a_directory_are_listed(exports: Exports, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(exports.root / "json" / "fixed" / "inference.json", tmp_path / f"{name}.json")
    message = refusal(tmp_path)
    assert "holds 2 models (a.json, b.json)" in message
    assert str(tmp_path / "a.json") in message


def test_what_the_system_refuses_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "cannot read" in refusal(tmp_path / ("x" * 300))

    def forbidden(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    # The tests may run as root, whom no directory keeps out.
    monkeypatch.setattr(Path, "iterdir", forbidden)
    assert refusal(tmp_path) == f"cannot read {tmp_path}: Permission denied"


def test_links_to_nothing_and_lfs_pointers_are_recognised(exports: Exports, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    directory = exports.copy("legacy", "mlp", tmp_path)
    (directory / "inference.pdiparams").write_text(pointer)
    assert "inference.pdiparams is a Git LFS pointer" in refusal(directory)
    (directory / "inference.pdiparams").unlink()
    (directory / "inference.pdiparams").symlink_to("blobs/42")
    assert "symbolic link to blobs/42" in refusal(directory)
    (directory / "inference.pdiparams").unlink()
    for name in ("inference.pdmodel", "inference.json"):
        (directory / "inference.pdmodel").unlink(missing_ok=True)
        (directory / name).write_text(pointer)
        assert f"{name} is a Git LFS pointer" in refusal(directory)
