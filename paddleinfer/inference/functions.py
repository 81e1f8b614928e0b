"""The functions of ``paddle.inference`` beside predictors, and the classes that are refused."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from paddleinfer.backends.paddle.installed import InstalledPaddle
from paddleinfer.errors import ConfigError
from paddleinfer.inference.enums import PlaceType, PrecisionType

__all__ = [
    "InternalUtils",
    "XpuConfig",
    "_get_phi_kernel_name",
    "convert_to_mixed_precision",
    "get_trt_compile_version",
    "get_trt_runtime_version",
    "get_version",
]


def get_version() -> str:
    """Returns the version of the installed Paddle, as Paddle words it."""
    return str(InstalledPaddle.find().inference.get_version())


def get_trt_compile_version() -> tuple[int, int, int]:
    """Returns the version of TensorRT that Paddle was built with; (0, 0, 0) is none."""
    return _three(InstalledPaddle.find().inference.get_trt_compile_version())


def get_trt_runtime_version() -> tuple[int, int, int]:
    """Returns the version of TensorRT that is loaded; (0, 0, 0) is none."""
    return _three(InstalledPaddle.find().inference.get_trt_runtime_version())


def _three(numbers: Iterable[int]) -> tuple[int, int, int]:
    major, minor, patch = numbers
    return major, minor, patch


def _get_phi_kernel_name(operator: str) -> str:
    return str(InstalledPaddle.find().inference._get_phi_kernel_name(operator))


def convert_to_mixed_precision(
    model_file: str | os.PathLike[str],
    params_file: str | os.PathLike[str],
    mixed_model_file: str | os.PathLike[str],
    mixed_params_file: str | os.PathLike[str],
    mixed_precision: PrecisionType,
    backend: PlaceType,
    keep_io_types: bool = True,
    black_list: Iterable[str] = (),
    **further: Any,
) -> None:
    """Has Paddle write a model whose operators run in another precision; arguments are Paddle's own."""
    inference = InstalledPaddle.find().inference
    inference.convert_to_mixed_precision(
        os.fspath(model_file),
        os.fspath(params_file),
        os.fspath(mixed_model_file),
        os.fspath(mixed_params_file),
        getattr(inference.PrecisionType, mixed_precision.name),
        getattr(inference.PlaceType, backend.name),
        keep_io_types,
        set(black_list),
        **further,
    )


class XpuConfig:
    """Is not offered."""

    def __init__(self, *_: object, **__: object) -> None:
        raise ConfigError("XpuConfig is not offered: paddleinfer runs on the CPU and on NVIDIA's GPUs")


class InternalUtils:
    """Is not offered."""

    def __init__(self, *_: object, **__: object) -> None:
        raise ConfigError("InternalUtils is not offered: it reaches into Paddle's own predictors")
