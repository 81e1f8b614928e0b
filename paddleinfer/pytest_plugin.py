"""Fixtures for testing code that uses paddleinfer. See docs/testing.md.

Each fixture imports what it needs when it is used, because this module is loaded in every run of pytest.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from paddleinfer._version import __version__
from paddleinfer.sentences import shown

if TYPE_CHECKING:
    from paddleinfer.testing import EngineOpener, ExportedModels, FakePredictor, VirtualEngine

_CLOSE_TIMEOUT = "paddleinfer_close_timeout"
_CLOSE_TIMEOUT_HELP = "seconds that an engine of the paddle_engine fixture may take to close (default: 10)"
_NO_PADDLE = (
    "paddle_model needs Paddle, which is not installed; install it with pip install 'paddleinfer[cpu]'"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(_CLOSE_TIMEOUT, _CLOSE_TIMEOUT_HELP, default="10")


def pytest_report_header() -> str:
    return f"paddleinfer: {__version__}, {_installed_paddle()}"


def _installed_paddle() -> str:
    for name in ("paddlepaddle-gpu", "paddlepaddle"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "without Paddle"


def _close_timeout_s(config: pytest.Config) -> float:
    given = config.getini(_CLOSE_TIMEOUT)
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise pytest.UsageError(f"{_CLOSE_TIMEOUT} must be a number of seconds >= 0, not {shown(given)}")
    return seconds


@pytest.fixture
def fake_predictor() -> Iterator[Callable[..., FakePredictor]]:
    """Makes scripted models: ``fake_predictor(run_time_s=0.01, fail_on=[3])``.

    It takes FakePredictor's arguments. Calls that hang are released when the test ends.
    """
    from paddleinfer.testing import FakePredictor

    made: list[FakePredictor] = []

    def make(*arguments: Any, **options: Any) -> FakePredictor:
        made.append(FakePredictor(*arguments, **options))
        return made[-1]

    yield make
    for predictor in made:
        predictor.release()


@pytest.fixture
def virtual_engine() -> type[VirtualEngine]:
    """Makes engines on a virtual clock: ``virtual_engine(predictor, max_batch_size=4)``.

    It takes VirtualEngine's arguments.
    """
    from paddleinfer.testing import VirtualEngine

    return VirtualEngine


@pytest.fixture(scope="session")
def paddle_model(tmp_path_factory: pytest.TempPathFactory) -> ExportedModels:
    """Exports a layer or a function once a session: ``paddle_model(Net, {"x": ("float32", (-1, 4))})``.

    It takes ExportedModels' arguments, returns the directory, and skips the test where Paddle is missing.
    """
    if importlib.util.find_spec("paddle") is None:
        pytest.skip(_NO_PADDLE)
    from paddleinfer.testing import ExportedModels

    return ExportedModels(tmp_path_factory.mktemp("paddle-models"))


@pytest.fixture
def paddle_engine(request: pytest.FixtureRequest) -> Iterator[EngineOpener]:
    """Opens engines: ``paddle_engine(path, max_batch_size=4)``. It takes EngineOpener's arguments.

    The engines are closed when the test ends, which fails if one has lost a request or leaked a thread.
    """
    from paddleinfer.testing import EngineOpener

    opener = EngineOpener(_close_timeout_s(request.config))
    yield opener
    problems = opener.close()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture(scope="session")
def assert_batches() -> Callable[..., None]:
    """``assert_batches(predictor, [[0], [1, 2]])`` fails with a diff if other batches ran."""
    from paddleinfer.testing import assert_batches

    return assert_batches


@pytest.fixture(scope="session")
def assert_same_alone_and_batched() -> Callable[..., None]:
    """``assert_same_alone_and_batched(engine, inputs)`` fails where a row differs alone and in a batch."""
    from paddleinfer.testing import assert_same_alone_and_batched

    return assert_same_alone_and_batched
