"""Makes environments of the servers that ours is compared with, under ``build/baselines/``.

``python -m benchmarks.http.envs`` makes missing ones; the benchmarks also do so themselves.
``benchmarks/http/pins/NAME.txt`` pins the packages of each; they share Paddle with this environment.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmarks.harness import REPOSITORY

BASELINES = ("litserve", "mosec", "bentoml", "ray", "fastapi")
_PINS = Path(__file__).resolve().parent / "pins"
_PLACE = REPOSITORY / "build" / "baselines"
# The packages that Paddle needs, in their versions here.
_ALONGSIDE = ("numpy", "ml_dtypes", "uvloop", "psutil")


class Unavailable(Exception):
    """A server is not available here; the sentence says why."""


def python_of(name: str) -> Path:
    """Returns the environment's interpreter; installs it if it is missing or its pins have changed.

    Raises
    ------
    Unavailable
        It cannot be installed; the sentence is pip's last.
    """
    place, pins = _PLACE / name, _PINS / f"{name}.txt"
    python, made = place / "bin" / "python", place / "made-from.txt"
    if made.exists() and made.read_text() == pins.read_text():
        return python
    shutil.rmtree(place, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(place)])
    constraints = ["-c", str(REPOSITORY / "constraints.txt")]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # One after the other: the constraints may name other versions of what is pinned.
    _run([*pip, *constraints, *_ALONGSIDE])
    _run([*pip, "-r", str(pins)])
    # The path comes after its own packages, and only now, so that pip does not count them as installed.
    ours = sysconfig.get_path("purelib")
    theirs = subprocess.check_output(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    Path(theirs.strip(), "paddle_of_the_benchmark.pth").write_text(f"{ours}\n")
    made.write_text(pins.read_text())
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise Unavailable((lines or done.stderr.splitlines() or ["no output"])[-1])


def main() -> None:
    """Makes all of them."""
    for name in BASELINES:
        try:
            print(f"{name}: {python_of(name).relative_to(REPOSITORY)}")
        except Unavailable as error:
            print(f"{name}: {error}")


if __name__ == "__main__":
    main()
