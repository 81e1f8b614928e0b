"""Options of Paddle, and of how its predictors are driven."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from paddleinfer.config.checks import (
    check_bool,
    check_choice,
    check_int,
    check_switch,
    checked_device,
    checked_file,
    checked_names,
)

__all__ = ["RuntimeKeywords", "RuntimeOptions"]

Precision = Literal["float32", "bfloat16", "float16", "int8"]
Driver = Literal["auto", "native", "python"]
Backend = Literal["paddle", "onnxruntime", "openvino", "auto"]

_PRECISIONS = ("float32", "bfloat16", "float16", "int8")
_DRIVERS = ("auto", "native", "python")
BACKENDS: tuple[Backend, ...] = ("paddle", "onnxruntime", "openvino")
"""The runtimes that there are; "auto" is one of them."""

OF_PADDLE_ALONE = (
    *("ir_optim", "mem_optim", "delete_passes", "device", "onednn", "max_onednn_shapes"),
    "max_onednn_cache_bytes",
    *("precision", "gpu_memory_mb", "eager_deletion", "malloc_tuning", "mkl_amd", "share_weights"),
    "paddle_log",
)
"""Options that act on Paddle's predictors and on no other backend."""


class RuntimeKeywords(TypedDict, total=False):
    """The fields of RuntimeOptions as keywords; RuntimeOptions describes them."""

    backend: Backend
    ir_optim: bool
    mem_optim: bool
    delete_passes: str | Sequence[str]
    device: str | Sequence[str]
    instances: int | Literal["auto"]
    cpu_threads: int
    onednn: bool | Literal["auto"]
    max_onednn_shapes: int
    max_onednn_cache_bytes: int
    precision: Precision
    gpu_memory_mb: int
    eager_deletion: bool | Literal["auto"]
    malloc_tuning: bool
    mkl_amd: bool | Literal["auto"]
    share_weights: bool
    driver: Driver
    inline: bool
    params: str | os.PathLike[str] | None
    onnx_cache: str | os.PathLike[str] | None
    onnx_cache_bytes: int
    paddle_log: bool


@dataclass(frozen=True)
class RuntimeOptions:
    """Options of Paddle, and of how its predictors are driven."""

    backend: Backend = "paddle"
    """The runtime that runs the model. "onnxruntime" and "openvino" take .onnx files, too; "auto" goes by a
    tuning file, or by a short look at load."""
    ir_optim: bool = False
    """Run Paddle's graph passes. On a ``.json`` model Paddle runs passes either way."""
    mem_optim: bool = True
    """Let Paddle reuse the memory of intermediate tensors."""
    delete_passes: str | tuple[str, ...] = ()
    """Graph passes that Paddle leaves out, by name."""
    device: str | tuple[str, ...] = "cpu"
    """"cpu", "gpu:0", or several of one kind, over which the instances are spread."""
    instances: int | Literal["auto"] = "auto"
    """Predictors that run at the same time, each on a thread of its own."""
    cpu_threads: int = 1
    """Threads of Paddle's math library inside one instance."""
    onednn: bool | Literal["auto"] = "auto"
    """Run oneDNN's kernels; "auto" is the installed Paddle's own default."""
    max_onednn_shapes: int = 128
    """Input shapes after which an instance empties its oneDNN kernel cache, however small they are."""
    max_onednn_cache_bytes: int = 64 << 20
    """Bytes that further input shapes may add to oneDNN's kernel caches, over all engines of the process."""
    precision: Precision = "float32"
    """"bfloat16" needs oneDNN on the CPU; "float16" and "int8" need TensorRT on a GPU."""
    gpu_memory_mb: int = 100
    """Megabytes Paddle reserves at first on each GPU."""
    eager_deletion: bool | Literal["auto"] = "auto"
    """Free intermediate tensors during a run, on a helper thread; "auto": in lots, where sizes are free."""
    malloc_tuning: bool = False
    """Keep freed memory in the process, in one arena, instead of giving it back to the kernel (glibc)."""
    mkl_amd: bool | Literal["auto"] = "auto"
    """Let MKL take its AVX2 path on AMD processors."""
    share_weights: bool = True
    """Let the instances of a ``.json`` model use one copy of the weights."""
    driver: Driver = "auto"
    """"native" runs Paddle's C++ predictor without the GIL, "python" calls Paddle's ``run()``."""
    inline: bool = True
    """Let a lone caller without a deadline run the model on its own thread."""
    params: str | None = None
    """The parameter file, if it is not named after the program: its name beside the program, or its path."""
    onnx_cache: str | None = None
    """The folder for models that were converted to ONNX; None is paddleinfer/onnx in the user's caches."""
    onnx_cache_bytes: int = 4 << 30
    """Bytes that converted models may have there; the least recently used go first."""
    paddle_log: bool = False
    """Let Paddle write its log lines to standard error while it loads."""

    def __post_init__(self) -> None:
        for name in ("ir_optim", "mem_optim", "malloc_tuning", "share_weights"):
            check_bool(name, getattr(self, name))
        for name in ("inline", "paddle_log"):
            check_bool(name, getattr(self, name))
        for name in ("onednn", "mkl_amd", "eager_deletion"):
            check_switch(name, getattr(self, name))
        if self.instances != "auto":
            check_int("instances", self.instances, 1, 1024)
        check_int("cpu_threads", self.cpu_threads, 1, 1024)
        check_int("max_onednn_shapes", self.max_onednn_shapes, 1, 1 << 20)
        check_int("max_onednn_cache_bytes", self.max_onednn_cache_bytes, 1, 1 << 50)
        check_int("gpu_memory_mb", self.gpu_memory_mb, 1, 1 << 24)
        object.__setattr__(self, "params", checked_file("params", self.params))
        object.__setattr__(self, "onnx_cache", checked_file("onnx_cache", self.onnx_cache, "folder"))
        check_int("onnx_cache_bytes", self.onnx_cache_bytes, 1, 1 << 50)
        check_choice("backend", self.backend, (*BACKENDS, "auto"))
        check_choice("precision", self.precision, _PRECISIONS)
        check_choice("driver", self.driver, _DRIVERS)
        object.__setattr__(self, "delete_passes", checked_names("delete_passes", self.delete_passes))
        object.__setattr__(self, "device", checked_device(self.device))

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices as a tuple, also if only one was given."""
        return (self.device,) if isinstance(self.device, str) else self.device
