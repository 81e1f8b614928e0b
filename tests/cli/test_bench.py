"""``paddleinfer bench``, ``simulate`` and ``demo``: loads, figures and pictures."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import said
from zoo import Zoo

from paddleinfer import Engine
from paddleinfer.cli.arrays import random_inputs
from paddleinfer.cli.load_inputs import inputs_of
from paddleinfer.cli.main import main
from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.models.spec import TensorSpec
from paddleinfer.tracing.files import read_text
from paddleinfer.tracing.validate import check

pytest.importorskip("paddle")
PNG = b"\x89PNG\r\n\x1a\n"
DRAWS = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
TABLES = pytest.mark.skipif(importlib.util.find_spec("rich") is None, reason="needs rich")


@pytest.fixture
def model(zoo: Zoo) -> Path:
    return zoo.directory("mlp", "legacy")


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_callers_who_wait_are_counted_and_their_latencies_told(
    capsys: pytest.CaptureFixture[str], model: Path
) -> None:
    figures = document(
        capsys, "bench", model, "--callers", 3, "--rows", 2, "--seconds", 0.2, "--instances", 1
    )
    assert figures["requests"] == figures["results"] > 0
    assert figures["requests_per_s"] == pytest.approx(figures["results"] / figures["seconds"])
    assert figures["rows_per_s"] == pytest.approx(2 * figures["requests_per_s"])
    latency_ms = figures["latency_ms"]
    assert 0 < latency_ms["p50"] <= latency_ms["p90"] <= latency_ms["p99"] <= latency_ms["max"]
    assert 2 <= figures["mean_batch_rows"] <= 6
    assert (figures["instances"], figures["inputs"][0]["shape"]) == (1, [2, 16])


@pytest.mark.parametrize(
    ("load", "sizes"),
    [
        (["--callers", 3, "--rows", 2], [1, 2, 4, 6]),
        (["--callers", 1], [1]),
        (["--callers", 99, "--max-batch-size", 4], [1, 2, 4]),
        (["--callers", 3, "--allowed-batch-sizes", "2,8"], None),
        (["--rate", 5], None),
    ],
)
def test_sizes_that_the_callers_cannot_fill_are_not_warmed_up(
    capsys: pytest.CaptureFixture[str], model: Path, monkeypatch: pytest.MonkeyPatch, load: Any, sizes: Any
) -> None:
    asked: list[Any] = []
    warmup = Engine.warmup

    def noted(self: Engine, inputs: Any = None, *, batch_sizes: Any = None) -> Any:
        asked.append(batch_sizes)
        return warmup(self, inputs, batch_sizes=batch_sizes)

    monkeypatch.setattr(Engine, "warmup", noted)
    document(capsys, "bench", model, *load, "--seconds", 0.3, "--instances", 1)
    assert asked == [sizes]


@DRAWS
def test_a_rate_is_kept_and_a_picture_drawn(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "bench.png"
    load = ("--rate", "200", "--seconds", "0.4", "--deadline-ms", "5000", "--instances", "1")
    assert main(["bench", str(model), *load, "--png", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "load        200 requests a second, 1 row each, 0.4 s, deadline 5000 ms" in out
    assert "sender      behind by" in out and str(picture) in out
    assert picture.read_bytes().startswith(PNG)


def test_the_rows_of_files_are_sent_in_turn(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.ones((5, 16)))
    load = ("--input", tmp_path / "x.npy", "--rows", 2, "--seconds", 0.1, "--callers", 1, "--instances", 1)
    figures = document(capsys, "bench", model, *load)
    assert (figures["rows_in_turn"], figures["rows_per_request"]) == (5, 2)
    assert figures["inputs"] == [{"name": "x", "dtype": "float64", "shape": [2, 16]}]
    assert main(["bench", str(model), *map(str, load)]) == 0
    assert "inputs      x float64 2x16, 5 rows in turn" in capsys.readouterr().out
    np.save(tmp_path / "x.npy", np.ones((5, 17)))
    assert "dimension 1 must be 16" in said(capsys, 2, "bench", model, *load)


def asked_for(*given: str, rows: int | None = None) -> argparse.Namespace:
    return argparse.Namespace(model="m", input=list(given), shape=[], rows=rows)


def test_after_the_last_row_of_a_file_comes_the_first(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.arange(5), fixed=np.arange(10), scale=np.float32(3), one=[7])
    specs = [
        TensorSpec("x", None, "float32", (-1,)),
        TensorSpec("fixed", None, "float32", (2,)),
        TensorSpec("scale", None, "float32", ()),
        TensorSpec("one", None, "float32", (1,)),
    ]
    inputs = inputs_of(asked_for(str(tmp_path / "in.npz")), specs)
    taken = [inputs.of_request(number) for number in range(6)]
    assert [request["x"].tolist() for request in taken] == [[0], [1], [2], [3], [4], [0]]
    assert [request["fixed"].tolist() for request in taken[-2:]] == [[8, 9], [0, 1]]
    assert {(float(request["scale"]), *request["one"]) for request in taken} == {(3.0, 7)}
    np.save(tmp_path / "x.npy", np.arange(5))
    wrapped = inputs_of(asked_for(str(tmp_path / "x.npy"), rows=3), specs[:1])
    assert [wrapped.of_request(number)["x"].tolist() for number in range(3)] == [
        [0, 1, 2],
        [3, 4, 0],
        [1, 2, 3],
    ]


@pytest.mark.parametrize(
    ("rows", "names", "sentence"),
    [
        (6, "x", "the input 'x' has 5 rows, and a request needs 6"),
        (None, "xy", "'x' has 5 rows and 'y' 4"),
        (3, "f", "the input 'f' always has 2 rows, so --rows cannot be 3"),
        (None, "e", "the input 'e' has 0 rows, and a request needs 1"),
        (None, "s", "the input 's' is one number, and the model takes -1"),
    ],
)
def test_files_that_make_no_requests_are_refused(
    tmp_path: Path, rows: int | None, names: str, sentence: str
) -> None:
    shapes, sizes = {"x": 5, "y": 4, "f": 10, "e": 0, "s": ()}, {"f": 2}
    specs = [TensorSpec(name, None, "float32", (sizes.get(name, -1),)) for name in names]
    np.savez(tmp_path / "in.npz", **{name: np.zeros(shapes[name]) for name in names})  # type: ignore[arg-type]
    with pytest.raises((ConfigError, InvalidInput), match=sentence):
        inputs_of(asked_for(str(tmp_path / "in.npz"), rows=rows), specs)


@pytest.mark.parametrize("name", ["trace.json", "trace.json.gz"])
def test_a_bench_keeps_the_timeline_of_what_it_measured(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    figures = document(capsys, "bench", model, "--seconds", 0.1, "--callers", 2, "--trace", path)
    kept = json.loads(read_text(path))
    assert check(kept) == []
    assert kept["otherData"]["requests"] == figures["trace"]["requests"] == figures["requests"]
    assert figures["trace"]["lost_requests"] == 0
    assert path.read_bytes().startswith(b"\x1f\x8b") == name.endswith("gz")


def test_free_sizes_have_to_be_given(capsys: pytest.CaptureFixture[str], zoo: Zoo) -> None:
    conv = zoo.directory("conv", "legacy")
    error = said(capsys, 2, "bench", conv)
    assert "free sizes beyond its rows (-1x3x-1x-1); give them with --shape image=1x3x224x224" in error
    given = document(
        capsys, "bench", conv, "--shape", "image=2x3x8x8", "--seconds", 0.1, "--callers", 1, "--instances", 1
    )
    assert given["inputs"][0]["shape"] == [2, 3, 8, 8] and given["rows_per_request"] == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--shape", "x=3by4"], "--shape must be like image=1x3x224x224, not x=3by4"),
        (["--shape", "y=1x16"], "--shape names the input 'y', but the model has 'x'"),
        (["--shape", "x=1x17"], "the input 'x' is -1x16, where -1 is any size"),
        (["--rows", "1000000000000000"], "does not fit into memory; make it smaller"),
        (["--callers", "2", "--rate", "3"], "not allowed with argument"),
        (["--png", "bench.gif"], "--png must end in .png"),
        (
            ["--png", "none/bench.png"],
            "--png cannot be written to none/bench.png (No such file or directory)",
        ),
        (["--trace", "none/t.json"], "--trace cannot be written to none/t.json (No such file"),
        (["--trace", "/"], "--trace must be a file, and / is a directory"),
        (["--input", "none.npy"], "none.npy cannot be read (No such file or directory)"),
        (["--input", "none.npy", "--shape", "x=1x16"], "--shape is for random inputs"),
    ],
)
def test_a_load_that_cannot_be_is_refused(
    capsys: pytest.CaptureFixture[str], model: Path, arguments: list[str], sentence: str
) -> None:
    assert sentence in said(capsys, 2, "bench", model, *arguments)


def test_a_load_of_which_nothing_was_answered_has_no_figures(
    capsys: pytest.CaptureFixture[str], model: Path
) -> None:
    late = ("--deadline-ms", "0.000001", "--seconds", "0.1", "--callers", "1", "--instances", "1")
    error = said(capsys, 1, "bench", model, *late)
    assert "requests was answered" in error and "allow more time" in error


def test_random_inputs_have_the_models_dtypes_and_the_rows_asked_for() -> None:
    specs = [
        TensorSpec("x", None, "bfloat16", (-1, 3)),
        TensorSpec("ids", None, "int64", (-1, 2)),
        TensorSpec("flag", None, "bool", ()),
    ]
    made = random_inputs(specs, [], rows=4)
    assert {name: array.shape for name, array in made.items()} == {"x": (4, 3), "ids": (4, 2), "flag": ()}
    assert [str(array.dtype) for array in made.values()] == ["bfloat16", "int64", "bool"]
    assert set(np.unique(made["ids"])) <= {0, 1}, "indices that every table has"


def test_rows_of_an_input_that_always_has_so_many_cannot_be_chosen() -> None:
    fixed = [TensorSpec("x", None, "float32", (8, 3))]
    assert random_inputs(fixed, [])["x"].shape == (8, 3)
    with pytest.raises(ConfigError, match="'x' always has 8 rows, so --rows cannot be 2"):
        random_inputs(fixed, [], rows=2)


@TABLES
def test_the_table_of_a_simulation_is_whole_in_a_narrow_window(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["simulate", "--run-ms", "1=9", "--rate", "50", "--requests", "100"]) == 0
    out = capsys.readouterr().out
    assert "fixed delay 10 ms" in out and "\u2026" not in out


@TABLES
def test_simulate_compares_the_policies_for_run_times_given(capsys: pytest.CaptureFixture[str]) -> None:
    times = ("--run-ms", "1=9.3", "--run-ms", "32=18.6")
    load = ("--rate", "800", "--deadline-ms", "50", "--requests", "500")
    assert main(["simulate", *times, *load]) == 0
    out = capsys.readouterr().out
    assert "rows of a run: 1 in 9.3 ms, 32 in 18.6 ms\ncapacity: 1,720 rows a second" in out
    assert "adaptive" in out and "fixed delay 10 ms" in out


def test_simulate_measures_a_models_run_times(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    found = document(
        capsys, "simulate", model, "--callers", 4, "--requests", 200, "--max-batch-size", 4, "--instances", 2
    )
    assert set(found["run_us"]) == {"1", "2", "4"}
    assert [result["policy"]["name"] for result in found["results"]][:2] == ["adaptive", "eager"]
    assert all(result["offered"] <= 200 for result in found["results"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give either --rate, requests a second, or --callers"),
        (["--rate", "5"], "give a model's directory, or run times such as --run-ms 1=9.3"),
        (
            ["--rate", "5", "--run-ms", "fast"],
            "--run-ms must be like 8=12.5, rows and milliseconds, not fast",
        ),
        (["--rate", "5", "--run-ms", "1=30", "--deadline-ms", "10"], "nothing can be in time"),
        (["--rate", "5", "--think-ms", "10"], "--think-ms is for --callers"),
        (["--callers", "5", "--bursty"], "--bursty is for --rate"),
    ],
)
@TABLES
def test_a_simulation_of_nothing_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert sentence in said(capsys, 2, "simulate", *arguments)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a directory that nobody writes to")
def test_the_demo_refuses_a_place_before_it_trains(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out /proc/x cannot be made" in said(capsys, 2, "demo", "--out", "/proc/x")


def test_the_demo_refuses_a_load_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--threads and --seconds must be positive" in said(capsys, 2, "demo", "--threads", "0")
