"""``paddleinfer verify``: the certificate in print and as JSON, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import said
from zoo import Zoo

from paddleinfer.cli.main import main

pytest.importorskip("paddle")


@pytest.fixture(autouse=True)
def _no_cache_of_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PADDLEINFER_ONNX_CACHE", str(tmp_path / "onnx"))


@pytest.fixture
def model(zoo: Zoo) -> Path:
    return zoo.directory("mlp", zoo.formats[0])


def written(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_certificate_that_holds_ends_with_0(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    rows = written(tmp_path / "x.npz", x=np.random.default_rng(2).random((5, 16), "float32"))
    assert main(["verify", str(model), "--inputs", str(rows)]) == 0
    out = capsys.readouterr().out
    assert "inputs   the given inputs 5x16" in out and "alone = batched" in out
    assert "padded rows: pad is not set" in out and out.endswith("the certificate holds\n")


def test_of_many_batches_the_first_are_listed_and_json_has_all(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    rows = written(tmp_path / "x.npz", x=np.ones((20, 16), "float32"))
    arguments = ["verify", str(model), "--inputs", str(rows), "--max-batch-size", "2"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "rows 5 to 6 of" in out and "and 7 batches more\n" in out and "rows 19 to 20" not in out
    assert main([*arguments, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["inputs"]) == 10


def test_a_certificate_that_does_not_hold_ends_with_1_and_says_why(
    capsys: pytest.CaptureFixture[str], zoo: Zoo
) -> None:
    assert main(["verify", str(zoo.directory("centred", zoo.formats[0]))]) == 1
    (fault,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("fault: ")]
    assert "differs by" in fault and "of made-up inputs 3x3" in fault


def test_json_has_every_comparison(capsys: pytest.CaptureFixture[str], zoo: Zoo) -> None:
    assert main(["verify", str(zoo.directory("scalar", zoo.formats[0])), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["holds"] is False and len(document["faults"]) == 1
    first, second = [one for one in document["agreements"] if one["compared"] == "batched"]
    assert first["holds"] and first["difference"] <= first["allowed"] and first["magnitude"] > 0
    assert not second["holds"] and second["difference"] is None
    assert "runtime" not in document["not_compared"] or document["other_runtime"] is None


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"y": np.ones((1, 16), "float32")}, "no input 'y'"),
        ({"x": np.ones((1, 17), "float32")}, "dimension 1 must be 16"),
        ({"x": np.array([["a"] * 16])}, "takes float32"),
        ({"x": np.ones((0, 16), "float32")}, "no rows"),
        ({}, "no array is given for 'x'"),
    ],
)
def test_arrays_that_do_not_fit_are_one_sentence(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, arrays: Any, sentence: str
) -> None:
    assert sentence in said(capsys, 2, "verify", model, "--inputs", written(tmp_path / "x.npz", **arrays))


def test_files_that_are_missing_or_damaged_are_one_sentence(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    assert "cannot be read" in said(capsys, 2, "verify", model, "--inputs", tmp_path / "none.npz")
    (tmp_path / "x.npz").write_text("no archive")
    assert "holds no arrays" in said(capsys, 2, "verify", model, "--inputs", tmp_path / "x.npz")
    assert "does not exist" in said(capsys, 2, "verify", tmp_path / "none")


def test_free_sizes_are_asked_for(capsys: pytest.CaptureFixture[str], zoo: Zoo) -> None:
    directory = zoo.directory("conv", zoo.formats[0])
    assert "example_shapes" in said(capsys, 2, "verify", directory)
    assert main(["verify", str(directory), "--example-shape", "image=3,8,8"]) == 0
