"""Options and fixtures of the whole suite."""

from __future__ import annotations

import collections
import gc
import importlib.metadata
import importlib.util
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import settings
from model_exports import exports  # noqa: F401 - a fixture
from zoo import Zoo

# Tests of the plugin run pytest inside pytest. A checkout that is not installed has no entry point for it.
pytest_plugins = ["pytester", "grpc_process_fixtures"]
if not importlib.metadata.entry_points(group="pytest11", name="paddleinfer"):
    pytest_plugins.append("paddleinfer.pytest_plugin")


# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

collect_ignore = ["clients"]  # they run in environments of their own


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stress-seconds", type=float, default=10.0, help="how long the stress tests run")
    parser.addoption("--thorough", action="store_true", help="tries all damage to files, not a fifth of it")
    parser.addoption("--model-seeds", type=int, default=50, help="how many random models are tried")
    backends = ("paddle", "onnxruntime", "openvino")
    parser.addoption("--backend", choices=backends, default="paddle", help="runs the suite's small models")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A few seeds get one combination each, and so all of them occur; many get all of them."""
    if "random_model_run" not in metafunc.fixturenames:
        return
    seeds = int(metafunc.config.getoption("--model-seeds"))
    combinations = [(format, onednn) for format in ("json", "legacy") for onednn in (True, False)]
    runs = [
        (seed, *combination)
        for seed in range(seeds)
        for place, combination in enumerate(combinations)
        if seeds > 50 or place == seed % len(combinations)
    ]
    metafunc.parametrize("random_model_run", runs, ids=lambda run: "-".join(map(str, run)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests for another major version of Paddle, and for runtimes that are not installed."""
    installed = importlib.metadata.version("paddlepaddle").split(".")[0]
    others = [{"2": "paddle3", "3": "paddle2"}[installed]]
    if not all(importlib.util.find_spec(name) for name in ("onnxruntime", "openvino", "paddle2onnx")):
        others.append("onnx")
    if not all(importlib.util.find_spec(name) for name in ("paddleocr", "paddlex")):
        others.append("paddlex")
    if not all(importlib.util.find_spec(name) for name in ("rapidocr", "rapidocr_paddle")):
        others.append("rapidocr")
    if importlib.util.find_spec("ray") is None:
        others.append("ray")
    if config.getoption("--backend") != "paddle":
        others.append("on_paddle")
    left_out = [item for item in items if any(map(item.get_closest_marker, others))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how the runs of random models ended, so that none is left out silently."""
    endings = collections.Counter(
        ending
        for report in terminalreporter.getreports("passed")
        for name, ending in report.user_properties
        if name == "random model"
    )
    for ending, count in endings.most_common():
        terminalreporter.write_line(f"random models: {count} runs: {ending}")


@pytest.fixture(scope="module", autouse=True)
def collected_before() -> None:
    """Keeps what modules, tests and earlier files hold out of later collections.

    Else each of them, and tests collect often, would walk through all that for some tenths of a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def stress_seconds(request: pytest.FixtureRequest) -> float:
    """Seconds a stress test runs."""
    return float(request.config.getoption("--stress-seconds"))


@pytest.fixture
def some_of(request: pytest.FixtureRequest) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Leaves out four in five unless asked for ``--thorough``; the first one stays."""
    step = 1 if request.config.getoption("--thorough") else 5  # not one that headers are aligned to
    return lambda all_: all_[::step]


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Zoo:
    """Small Paddle models, exported when they are asked for."""
    return Zoo(tmp_path_factory.mktemp("zoo"), request.config.getoption("--backend"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Under CI nothing is missing, so a skip there hides something: it fails."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped under CI: {report.longrepr}"
    return report


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other plugin is loaded: the runs inside are quick, and the same whatever is installed."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What leaks is not waited for long."""
    monkeypatch.setattr("paddleinfer.testing.engines._GRACE_S", 1.0)
