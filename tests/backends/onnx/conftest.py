"""Engines over each runtime of ONNX models, with one folder of converted models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddleinfer import Engine

Opened = Callable[..., Engine]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of all tests, so that each model is converted once."""
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(params=["onnxruntime", "openvino"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each runtime in turn."""
    return str(request.param)


@pytest.fixture
def title(backend: str) -> str:
    """A pattern of the runtime's name and version, as sentences have them."""
    return {"onnxruntime": r"onnxruntime 1\.\S+", "openvino": r"OpenVINO 2026\.\S+"}[backend]


@pytest.fixture
def opened(backend: str, folder: Path) -> Opened:
    """Opens an engine over the runtime, with two instances."""

    def opens(model: Path, **options: Any) -> Engine:
        return Engine(model, **{"backend": backend, "onnx_cache": folder, "instances": 2, **options})

    return opens
