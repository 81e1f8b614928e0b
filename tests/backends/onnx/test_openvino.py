"""What is OpenVINO's own: its streams, its version, and how it says what went wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import Zoo

from paddleinfer import Engine
from paddleinfer.backends.onnx import on_openvino
from paddleinfer.backends.onnx.installed import InstalledOpenVino
from paddleinfer.errors import ConfigError

pytestmark = pytest.mark.paddle3


@pytest.mark.onnx
@pytest.mark.parametrize("driver", ["native", "python"])
def test_a_model_that_is_not_small_runs_in_streams_and_says_how_many(
    zoo: Zoo, folder: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    monkeypatch.setattr(on_openvino, "_MOST_BYTES_APART", 0)
    options: Any = {"onnx_cache": folder, "instances": 256, "driver": driver, "check": False}
    rows = np.random.default_rng(2).standard_normal((32, 16)).astype("float32")
    with Engine(zoo.directory("mlp", "json"), backend="openvino", **options) as engine:
        (wanted,) = engine.infer({"x": rows}).values()
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda row: engine.infer({"x": row[None]}), rows))
        report = engine.effective_config()
    given = np.concatenate([next(iter(answer.values())) for answer in answers])
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-6)
    streams = int(report["cpu_threads"]["note"].split()[0])
    assert 1 <= streams < 256
    assert report["cpu_threads"]["note"].startswith(f"{streams} streams of OpenVINO's compute, of 1 thread")
    assert report["instances"]["note"] == f"OpenVINO computes {streams} at a time, for it counts the cores"
    assert report["share_weights"]["note"].startswith("one compiled model")


@pytest.mark.onnx
def test_threads_that_openvino_does_not_take_are_said(zoo: Zoo, folder: Path) -> None:
    options: Any = {"onnx_cache": folder, "instances": 2, "cpu_threads": 1024, "check": False}
    with Engine(zoo.directory("mlp", "json"), backend="openvino", **options) as engine:
        report = engine.effective_config()
    assert "; OpenVINO takes no more than " in report["cpu_threads"]["note"]
    assert report["share_weights"]["note"].startswith("the weights are few")


# -- without the package


@pytest.mark.parametrize("version", ["2023.3.0", "2024.6.0"])
def test_a_version_that_is_too_old_is_refused_with_the_command_for_another(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: Spec)
    monkeypatch.setattr(InstalledOpenVino, "_version", lambda: version)
    with pytest.raises(
        ConfigError, match=rf"needs OpenVINO 2025 or later, and {version} is installed; install a later one"
    ):
        Engine(zoo.directory("mlp", "json"), backend="openvino")


def test_a_message_goes_without_the_places_in_openvinos_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    found = InstalledOpenVino("2026.4.1", None)
    monkeypatch.setattr(InstalledOpenVino, "find", lambda: found)
    runtime = on_openvino.OpenVino()
    failure = (
        "Exception from src/inference/src/cpp/core.cpp:84:\n"
        "Check 'false' failed at src/frontends/common_translators/src/unconverted_ops_report.cpp:151:\n"
        "FrontEnd API failed with OpConversionFailure:\nModel wasn't fully converted.\n\n"
    )
    wanted = "FrontEnd API failed with OpConversionFailure: Model wasn't fully converted."
    assert runtime.told(failure) == wanted
    assert runtime.told("general error") == "general error"
    assert runtime.native_problem() == "OpenVINO 2026.4.1 has no libopenvino_c.so in its package"
