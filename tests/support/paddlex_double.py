"""As much of PaddleX as ``paddleinfer.paddlex`` touches, for tests where it is not installed."""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MODELS = "paddlex.inference.models"


@dataclass(frozen=True)
class Binding:
    """What PaddleX keeps for a model and an engine."""

    predictor: type
    runner_binding: Any = None


class RunnerEngine:
    """Registers its subclasses by ``entities``."""

    all: dict[str, type] = {}  # noqa: RUF012 - one for each double, cleared by it

    def __init_subclass__(cls) -> None:
        RunnerEngine.all[cls.entities] = cls  # type: ignore[attr-defined]

    @staticmethod
    def _apply_device(raw: dict[str, Any], device: str | None) -> None:
        if device:
            kind, _, number = device.partition(":")
            raw["device_type"], raw["device_id"] = kind, int(number) if number else None


class InferenceRunner:
    """The base of runners."""


class LocalModelPredictor:
    """A predictor with a runner, and with state of a call, as PaddleX's have it."""

    __module__ = f"{MODELS}.predictors"

    def __init__(self, model_name: str, runner: Any) -> None:
        self.model_name = model_name
        self.runner = runner
        self.batch_size = 1
        self.predict = self.__call__

    def __call__(self, input: Any, batch_size: int = 1) -> Iterator[Any]:
        self.batch_size = batch_size
        for row in input:
            (result,) = self.runner([row[None]])
            yield self.batch_size, result[0]


def _model_paths(model_dir: Path) -> dict[str, Any]:
    files = {name: Path(model_dir) / f"inference.{name}" for name in ("json", "pdmodel", "pdiparams", "onnx")}
    paths: dict[str, Any] = {}
    for program in ("json", "pdmodel"):
        if files[program].exists() and files["pdiparams"].exists():
            paths.setdefault("paddle", (files[program], files["pdiparams"]))
    if files["onnx"].exists():
        paths["onnx"] = files["onnx"]
    return paths


class PaddleXDouble:
    """The modules, to be changed before ``paddleinfer.paddlex`` is imported."""

    def __init__(self) -> None:
        self.registry: dict[str, dict[str, Binding]] = {
            "PP-OCRv5_mobile_rec": {"paddle_static": Binding(LocalModelPredictor)},
            "PP-LCNet_x1_0": {"paddle_static": Binding(LocalModelPredictor)},
            "UVDoc": {"paddle_static": Binding(LocalModelPredictor)},
            "BEVFusion": {"paddle_static": Binding(LocalModelPredictor, runner_binding=object())},
            "whisper_large": {"flexible": Binding(LocalModelPredictor)},
        }
        self.modules = {
            MODELS: {
                "create_predictor": None,
                "_engine_config_bucket_key_allowlist": functools.cache(lambda: frozenset(RunnerEngine.all)),
            },
            f"{MODELS}.bindings": {
                "default_registry": types.SimpleNamespace(_registry=self.registry),
                "register_predictor_binding_map": self._bind,
            },
            f"{MODELS}.engines": {"RunnerEngine": RunnerEngine},
            f"{MODELS}.predictors": {"LocalModelPredictor": LocalModelPredictor},
            f"{MODELS}.runners.inference_runner": {"InferenceRunner": InferenceRunner},
            f"{MODELS}.runners.paddle_static.config": {"MKLDNN_BLOCKLIST": ["UVDoc"]},
            f"{MODELS}.utils.model_paths": {"get_model_paths": _model_paths},
        }

    def _bind(self, predictor: type, bindings: dict[str, list[str]]) -> None:
        for engine, names in bindings.items():
            for name in names:
                self.registry[name][engine] = Binding(predictor)

    @contextmanager
    def installed(self, version: str = "3.7.2") -> Iterator[None]:
        """PaddleX can be imported; afterwards neither it nor what of ours imported it is imported."""
        RunnerEngine.all.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(importlib.metadata, "version", functools.partial(_version, version))
            for name, content in self.modules.items():
                for package in itertools.accumulate(name.split("."), "{}.{}".format):
                    module = sys.modules.setdefault(package, types.ModuleType(package))
                    module.__path__ = []
                vars(sys.modules[name]).update(content)
            try:
                yield
            finally:
                for name in list(sys.modules):
                    if name.partition(".")[0] == "paddlex" or name.startswith("paddleinfer.paddlex"):
                        del sys.modules[name]


def _version(version: str, package: str) -> str:
    if package != "paddlex":
        return importlib.metadata.distribution(package).version
    if not version:
        raise importlib.metadata.PackageNotFoundError(package)
    return version
