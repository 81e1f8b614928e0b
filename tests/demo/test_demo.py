"""The demo: the whole main job, shortened, as its users start it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paddleinfer.demo.demo import differences, summary
from paddleinfer.demo.load import Load, Outcome, Variant, drive_tasks, drive_threads

pytest.importorskip("paddle")
PNG = b"\x89PNG\r\n\x1a\n"
PATIENCE_S = 300.0
INSTALLED = pytest.mark.skipif(
    any(importlib.util.find_spec(module) is None for module in ("sklearn", "matplotlib", "rich")),
    reason='needs pip install "paddleinfer[demo]"',
)


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paddleinfer.demo", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )


@INSTALLED
def test_the_demo_classifies_the_held_out_digits_every_way_and_draws_what_came_of_it(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = run_demo("--out", str(out), "--threads", "8", "--seconds", "0.3")
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = re.search(r"accuracy: ([\d.]+)% of 450 held-out images", done.stdout)
    assert accuracy, done.stdout
    assert float(accuracy[1]) >= 97
    ours = ("paddleinfer, threads", "paddleinfer, asyncio")
    theirs = ("Paddle predictor + lock", "Paddle predictor per thread")
    rows_per_run = {}
    for variant in ours + theirs:
        row = re.search(
            rf"│ {re.escape(variant)} +│ +[\d,]+ │" + r" +[\d.]+ │" * 3 + r" +([\d.]+) │", done.stdout
        )
        assert row, done.stdout
        rows_per_run[variant] = float(row[1])
    for variant in ours:
        ratios = "[\\d.]+ times Paddle predictor \\+ lock, [\\d.]+ times Paddle predictor per thread"
        assert re.search(f"^{variant}: {ratios}$", done.stdout, re.MULTILINE), done.stdout
        assert f"{rows_per_run[variant]:.1f} ({variant})" in done.stdout
        assert rows_per_run[variant] > 1
    assert {rows_per_run[variant] for variant in theirs} == {1.0}
    assert "labels: the same from every variant" in done.stdout
    assert "\x1b" not in done.stdout, "a pipe gets plain text"
    assert max(map(len, done.stdout.splitlines()[:10])) <= 80
    for picture in ("digits.png", "throughput.png"):
        assert (out / picture).read_bytes().startswith(PNG)
        assert str(out / picture) in done.stdout
    assert list((out / "model").glob("inference.*"))


@INSTALLED
def test_ctrl_c_ends_the_demo_with_one_sentence(tmp_path: Path) -> None:
    # A test run in the background has Ctrl-C ignored, and so would what it starts.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from paddleinfer.demo.demo import main; sys.exit(main())"
    )
    demo = subprocess.Popen(
        [sys.executable, "-c", code, "--out", str(tmp_path), "--threads", "8", "--seconds", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + PATIENCE_S
        while not list(tmp_path.glob("model/inference.pdiparams")) and time.monotonic() < end:
            assert demo.poll() is None, demo.communicate()
            time.sleep(0.05)
        time.sleep(0.5)  # into the load
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=PATIENCE_S)
    finally:
        demo.kill()
        demo.wait()
    assert (demo.returncode, said) == (130, "the demo was interrupted\n")


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    # A finder that hides the package, in the one place every interpreter start looks at.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'sklearn' else find(name, *more)\n"
    )
    done = run_demo("--out", str(tmp_path / "demo"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == 'the demo needs scikit-learn: pip install "paddleinfer[cpu,demo]"\n'
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize(
    "arguments", [("--threads", "0"), ("--seconds", "0"), ("--seconds", "nan"), ("--seconds", "inf")]
)
def test_a_load_that_is_none_is_refused(arguments: tuple[str, str]) -> None:
    done = run_demo(*arguments)
    assert done.returncode == 2
    assert "must be positive" in done.stderr


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_demo("--out", str(tmp_path / "file"))
    assert done.returncode == 2
    assert done.stderr.endswith(f"--out must be a directory, which {tmp_path / 'file'} is not\n")


# The load without a model: images whose only pixel is their label.

Scores = np.ndarray[Any, Any]
IMAGES = np.arange(10, dtype="float32").reshape(10, 1, 1, 1)
SILENT = SimpleNamespace(add_task=lambda *_, **__: 0, update=lambda *_, **__: None)


def right(rows: Scores) -> Scores:
    return np.eye(10, dtype="float32")[rows[:, 0, 0, 0].astype(int)]


def drive(variant: Variant, scores: Callable[[Scores], Scores], load: Load, asynchronous: bool) -> Outcome:
    async def awaited(rows: Scores) -> Scores:
        await asyncio.sleep(0)
        return scores(rows)

    return (
        drive_tasks(variant, awaited, load, SILENT)
        if asynchronous
        else drive_threads(variant, scores, load, SILENT)
    )


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("callers", [1, 16])
def test_every_image_is_asked_for_however_short_the_load(callers: int, asynchronous: bool) -> None:
    outcome = drive(Variant("some variant"), right, Load(IMAGES, callers, 1e-9), asynchronous)
    assert outcome.labels.tolist() == list(range(10))
    assert (outcome.changed, outcome.rows_per_run) == (0, 1.0)
    assert 0 < outcome.p50_ms <= outcome.p99_ms <= outcome.slowest_ms
    assert outcome.requests_per_second > 0


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("fails_at", [1, 30])
def test_what_one_caller_runs_into_ends_the_load_and_comes_out(fails_at: int, asynchronous: bool) -> None:
    calls: list[int] = []

    def fails(rows: Scores) -> Scores:
        calls.append(1)
        if len(calls) >= fails_at:
            raise ValueError("no more")
        return right(rows)

    with pytest.raises(ValueError, match="no more"):
        drive(Variant("some variant"), fails, Load(IMAGES, 4, PATIENCE_S), asynchronous)
    assert not [thread for thread in threading.enumerate() if "(work)" in thread.name]


def test_rows_per_run_are_those_of_the_load_alone() -> None:
    counts = iter([(100, 10), (400, 30)])
    engine: Any = SimpleNamespace(
        stats=lambda: dict(zip(("executed_rows", "executions"), next(counts), strict=True))
    )
    outcome = drive(Variant("some variant", engine=engine), right, Load(IMAGES, 2, 1e-9), False)
    assert outcome.rows_per_run == 15.0


def test_labels_that_differ_or_change_are_told() -> None:
    answers = iter(range(10**6))
    load = Load(IMAGES, 1, 0.05)
    steady = drive(Variant("this variant"), right, load, False)
    fickle = drive(Variant("that variant"), lambda _: np.eye(10)[[next(answers) // 7 % 10]], load, False)
    assert not differences([steady, steady])
    others, changes = differences([steady, fickle])
    assert re.fullmatch(r"that variant and this variant differ on \d+ images", others)
    assert re.fullmatch(r"that variant changed its mind about an image \d+ times", changes)


def test_the_summary_compares_each_engine_with_each_rival() -> None:
    def outcome(name: str, rate: float, rows: float, engine: Any = None) -> Outcome:
        return Outcome(Variant(name, engine=engine), np.zeros(450, "int64"), 0, rate, 1.0, 2.0, 3.0, rows)

    lines = summary(
        [outcome("A", 300.0, 5.0, object()), outcome("B", 100.0, 1.0), outcome("C", 200.0, 1.0)], 0.98
    )
    assert lines == [
        "A: 3.0 times B, 1.5 times C",
        "mean rows per run: 5.0 (A)",
        "accuracy: 98.00% of 450 held-out images",
    ]
