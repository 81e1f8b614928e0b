"""``paddleinfer run``: arrays from files, through a model, into a file."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from commands import said
from zoo import Zoo

from paddleinfer import Engine
from paddleinfer.cli.arrays import read_inputs, write_outputs
from paddleinfer.cli.main import main
from paddleinfer.models.spec import TensorSpec
from paddleinfer.tracing.validate import check

pytest.importorskip("paddle")
ROWS = np.random.default_rng(3).random((3, 16), "float32")


@pytest.fixture
def model(zoo: Zoo) -> Path:
    return zoo.directory("mlp", "legacy")


@pytest.fixture
def x_file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", ROWS)
    return tmp_path / "x.npy"


def test_run_gives_what_an_engine_gives(
    capsys: pytest.CaptureFixture[str], model: Path, x_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.npz"
    assert main(["run", str(model), "--input", str(x_file), "--output", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    with Engine(model, instances=1) as engine:
        expected = engine.infer(ROWS)
    (name,) = expected
    with np.load(out) as written:
        np.testing.assert_allclose(written[name], expected[name], rtol=1e-5)
    (described,) = document["outputs"]
    assert (described["name"], described["dtype"], described["shape"]) == (name, "float32", [3, 4])
    np.testing.assert_allclose(described["preview"], expected[name].reshape(-1)[:6], rtol=1e-5)
    assert len(document["run_ms"]) == 1 and document["output"] == str(out)


def test_run_prints_shapes_a_preview_and_the_times(
    capsys: pytest.CaptureFixture[str], model: Path, x_file: Path
) -> None:
    named = f"x={x_file}"
    assert main(["run", str(model), "--input", named, "--repeat", "4", "--instances", "1"]) == 0
    out = capsys.readouterr().out
    assert "input   x" in out and "float32  3x16   0." in out and ", ...\n" in out
    assert "3 times more: least" in out


def test_an_npz_file_gives_every_input(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "all.npz", x=ROWS)
    assert main(["run", str(model), "--input", str(tmp_path / "all.npz"), "--instances", "1"]) == 0
    assert "3x16" in capsys.readouterr().out
    np.savez(tmp_path / "more.npz", x=ROWS, y=ROWS)
    error = said(capsys, 2, "run", model, "--input", tmp_path / "more.npz")
    assert "the model has no input 'y'" in error and "it has 'x'" in error


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"hello", "holds no arrays that NumPy can read; write it with numpy.save"),
        (b"", "holds no arrays that NumPy can read"),
        (b"PK\x03\x04 cut off", "holds no arrays that NumPy can read"),
        (b"\x93NUMPY\x01\x00", "holds no arrays that NumPy can read"),
        (None, "cannot be read (No such file or directory); --input takes an .npy or .npz file"),
    ],
)
def test_a_file_without_arrays_is_refused(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / "x.npy").write_bytes(content)
    error = said(capsys, 2, "run", model, "--input", tmp_path / "x.npy")
    assert sentence in error and "x.npy" in error


def test_python_objects_in_a_file_are_never_unpickled(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    assert "without Python objects" in said(capsys, 2, "run", model, "--input", tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((1, 17), "float32"), "dimension 1 must be 16"),
        (np.zeros((1, 4, 4), "float32"), "has 3 dimensions (1, 4, 4), the model takes 2"),
        (np.zeros((1, 16), "complex64"), "takes float32, not complex64"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, array: np.ndarray, sentence: str
) -> None:
    np.save(tmp_path / "x.npy", array)
    assert sentence in said(capsys, 2, "run", model, "--input", tmp_path / "x.npy", "--instances", "1")


def test_inputs_that_are_missing_unknown_or_given_twice_are_named(
    capsys: pytest.CaptureFixture[str], model: Path, x_file: Path
) -> None:
    error = said(capsys, 2, "run", model)
    assert "no array is given for 'x' (float32, -1x16); give one with --input x=FILE.npy" in error
    assert "no input 'y'" in said(capsys, 2, "run", model, "--input", f"y={x_file}")
    twice = said(capsys, 2, "run", model, "--input", x_file, "--input", f"x={x_file}")
    assert "'x' is given twice" in twice
    assert "names no file" in said(capsys, 2, "run", model, "--input", "x=")


def test_a_place_where_nothing_can_be_written_is_refused_before_the_model_runs(
    capsys: pytest.CaptureFixture[str], model: Path, x_file: Path, tmp_path: Path
) -> None:
    run = ("run", model, "--input", x_file, "--output")
    assert "must end in .npz" in said(capsys, 2, *run, tmp_path / "out.txt")
    assert "a directory that exists" in said(capsys, 2, *run, tmp_path / "none" / "out.npz")


def test_the_timeline_of_its_runs_is_kept(
    capsys: pytest.CaptureFixture[str], model: Path, x_file: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace.json"
    arguments = ["--input", str(x_file), "--repeat", "3", "--instances", "1", "--trace", str(trace)]
    assert main(["run", str(model), *arguments]) == 0
    assert f"trace in {trace}, all 3 requests" in capsys.readouterr().out
    kept = json.loads(trace.read_text())
    assert check(kept) == [] and kept["otherData"]["requests"] == 3


def test_what_the_model_fails_on_ends_with_1(
    capsys: pytest.CaptureFixture[str], zoo: Zoo, tmp_path: Path
) -> None:
    np.save(tmp_path / "ids.npy", np.full((1, 6), 1000))
    directory = zoo.directory("embedding", "legacy")
    assert main(["run", str(directory), "--input", str(tmp_path / "ids.npy"), "--instances", "1"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("paddleinfer run: ") and "Traceback" not in err


def test_a_file_for_one_of_several_inputs_needs_a_name(tmp_path: Path) -> None:
    from paddleinfer.errors import InvalidInput

    np.save(tmp_path / "a.npy", ROWS)
    specs = [TensorSpec(name, None, "float32", (-1, 16)) for name in ("first", "second")]
    with pytest.raises(InvalidInput, match=r"one of 2 inputs \(first, second\); write --input NAME=a.npy"):
        read_inputs([str(tmp_path / "a.npy")], specs)
    given = read_inputs([f"first={tmp_path / 'a.npy'}", f"second={tmp_path / 'a.npy'}"], specs)
    assert list(given) == ["first", "second"]


def test_bfloat16_and_awkward_names_survive_a_file(tmp_path: Path) -> None:
    written = {"file": ROWS.astype(ml_dtypes.bfloat16), "a/b": np.array(3)}
    write_outputs(tmp_path / "out.npz", written)
    specs = [TensorSpec("file", None, "bfloat16", None), TensorSpec("a/b", None, "int64", ())]
    read = read_inputs([str(tmp_path / "out.npz")], specs)
    for name, array in written.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
