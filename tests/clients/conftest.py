"""Options and fixtures of the clients' tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from client_servers import Addresses, served, started

ROOT = Path(__file__).resolve().parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server-python", default=ROOT / ".venv/bin/python", help="has Paddle and paddleinfer")
    parser.addoption("--models", default=ROOT / "build/client-models", help="what export_models.py made")


@pytest.fixture
def documented(everything: Addresses) -> Callable[[str], list[str]]:
    """Import -> the examples of docs/clients.md that have it, asking the tests' server."""
    text = (ROOT / "docs/clients.md").read_text()
    text = text.replace("localhost:9393", everything.http).replace("localhost:8001", everything.grpc)
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return lambda imported: [example for example in examples if imported in example]


@pytest.fixture(scope="session")
def python(pytestconfig: pytest.Config) -> str:
    return str(pytestconfig.getoption("--server-python"))


@pytest.fixture(scope="session")
def models(pytestconfig: pytest.Config) -> Path:
    """The exported models, a directory each."""
    return Path(pytestconfig.getoption("--models")).resolve()


@pytest.fixture(scope="session")
def everything(python: str, models: Path) -> Iterator[Addresses]:
    """Serves all models, as the command does without further options."""
    directories = sorted(path for path in models.iterdir() if path.is_dir())
    with started(*served(python, directories)) as addresses:
        yield addresses


@pytest.fixture
def url(everything: Addresses) -> str:
    return everything.http


@pytest.fixture
def grpc_url(everything: Addresses) -> str:
    return everything.grpc


@pytest.fixture(scope="module")
def controlled(python: str, models: Path) -> Iterator[Addresses]:
    """Serves `simple`, and lets clients load and unload it; each test leaves it loaded as it came."""
    with started(*served(python, [models / "simple"], "--repository-control")) as addresses:
        yield addresses


@pytest.fixture
def controlled_url(controlled: Addresses) -> str:
    return controlled.http


@pytest.fixture
def controlled_grpc_url(controlled: Addresses) -> str:
    return controlled.grpc


@pytest.fixture(scope="session")
def holding(python: str) -> Iterator[Addresses]:
    """Serves `held`, whose requests wait until `release` is asked with the same value."""
    with started(python, Path(__file__).with_name("serve.py")) as addresses:
        yield addresses


@pytest.fixture
def holding_url(holding: Addresses) -> str:
    return holding.http
