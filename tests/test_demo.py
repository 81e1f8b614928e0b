"""The demo: the whole main job, shortened, as its users start it."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("paddle")
PNG = b"\x89PNG\r\n\x1a\n"


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paddleinfer.demo", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(
    any(importlib.util.find_spec(module) is None for module in ("sklearn", "matplotlib", "rich")),
    reason='needs pip install "paddleinfer[demo]"',
)
def test_the_demo_classifies_the_held_out_digits_and_draws_them(tmp_path: Path) -> None:
    done = run_demo("--out", str(tmp_path / "demo"), "--threads", "8", "--seconds", "0.3")
    assert done.returncode == 0, done.stdout + done.stderr
    accuracy = re.search(r"accuracy: ([\d.]+)% of 450 held-out images", done.stdout)
    assert accuracy, done.stdout
    assert float(accuracy[1]) >= 97
    for way in ("paddleinfer Engine", "Paddle predictor + lock"):
        assert re.search(rf"{re.escape(way)} +│ +[\d,]+ │ +[\d.]+ │ +[\d.]+", done.stdout), done.stdout
    assert "\x1b" not in done.stdout, "a pipe gets plain text"
    assert (tmp_path / "demo" / "digits.png").read_bytes().startswith(PNG)
    assert list((tmp_path / "demo" / "model").glob("inference.*"))


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


@pytest.mark.parametrize("arguments", [("--threads", "0"), ("--seconds", "0"), ("--seconds", "nan")])
def test_a_load_that_is_none_is_refused(arguments: tuple[str, str]) -> None:
    done = run_demo(*arguments)
    assert done.returncode == 2
    assert "must be positive" in done.stderr
