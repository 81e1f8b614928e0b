"""Servers for the clients' tests, each a process in the environment that has Paddle."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_S = 120.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server-python", default=ROOT / ".venv/bin/python", help="has Paddle and paddleinfer")
    parser.addoption("--models", default=ROOT / "build/client-models", help="what export_models.py made")


@contextlib.contextmanager
def started(*command: object) -> Iterator[str]:
    """A server's address, "127.0.0.1:PORT"; afterwards the server has ended by itself, with exit code 0."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    try:
        yield _address(process)
        process.terminate()
        process.communicate(timeout=START_S)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def _address(process: subprocess.Popen[str]) -> str:
    killer = threading.Timer(START_S, process.kill)
    killer.start()
    assert process.stdout is not None
    for line in process.stdout:
        if "serves on http://" in line:
            killer.cancel()
            return line.rstrip().rpartition("/")[2]
    raise AssertionError("the server did not start; what it wrote to standard error says why")


@pytest.fixture
def documented(url: str) -> Callable[[str], list[str]]:
    """Import -> the examples of docs/clients.md that have it, asking the tests' server."""
    text = (ROOT / "docs/clients.md").read_text().replace("localhost:9393", url)
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return lambda imported: [example for example in examples if imported in example]


@pytest.fixture(scope="session")
def python(pytestconfig: pytest.Config) -> str:
    return str(pytestconfig.getoption("--server-python"))


@pytest.fixture(scope="session")
def models(pytestconfig: pytest.Config) -> Path:
    """The exported models, a directory each."""
    return Path(pytestconfig.getoption("--models")).resolve()


def served(python: str, directories: list[Path], *flags: str) -> list[object]:
    """A command that serves these models by their directories' names."""
    named = [f"--model={directory.name}={directory}" for directory in directories]
    return [python, "-m", "paddleinfer.shim", "--host=127.0.0.1", "--port=0", "--instances=1", *flags, *named]


@pytest.fixture(scope="session")
def url(python: str, models: Path) -> Iterator[str]:
    """Serves all models, as the command does without further options."""
    directories = sorted(path for path in models.iterdir() if path.is_dir())
    with started(*served(python, directories)) as address:
        yield address


@pytest.fixture
def controlled_url(python: str, models: Path) -> Iterator[str]:
    """Serves `simple`, and lets clients load and unload it."""
    with started(*served(python, [models / "simple"], "--repository-control")) as address:
        yield address


@pytest.fixture(scope="session")
def holding_url(python: str) -> Iterator[str]:
    """Serves `held`, whose requests wait until `release` is asked with the same value."""
    with started(python, Path(__file__).with_name("serve.py")) as address:
        yield address
