"""Makes a ``paddle.inference.Config`` from options, and reports what Paddle made of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paddleinfer.backends.paddle.faults import FaultContext, Workaround
from paddleinfer.backends.paddle.graph_passes import WORTH
from paddleinfer.backends.paddle.installed import InstalledPaddle
from paddleinfer.backends.processors import cpu_flags
from paddleinfer.config import RuntimeOptions
from paddleinfer.errors import ConfigError
from paddleinfer.models.files import read_whole, readable
from paddleinfer.models.reader import ModelFormat, ModelSpec
from paddleinfer.resolved_options import ResolvedOptions

__all__ = ["build_config", "fault_context_of", "onednn_by_default", "refuse_impossible"]

# The values that Paddle's documentation proposes for its TensorRT subgraphs.
_TENSORRT_WORKSPACE_BYTES = 1 << 30
_TENSORRT_MIN_SUBGRAPH = 3


def refuse_impossible(options: RuntimeOptions, installed: InstalledPaddle) -> None:
    """Refuses what the installed Paddle cannot do.

    Raises
    ------
    ConfigError
        An option is not possible; the sentence names it, and what would make it possible.
    """
    what = f"the installed {installed.distribution} {installed.version}"
    on_gpu = options.devices[0] != "cpu"
    if on_gpu:
        _refuse_missing_gpu(options, installed, what)
    if options.precision == "bfloat16" and (on_gpu or options.onednn is False):
        raise ConfigError('precision="bfloat16" needs oneDNN on the CPU: device="cpu" and onednn not False')
    if options.precision in ("float16", "int8"):
        if not on_gpu:
            raise ConfigError(f'precision="{options.precision}" needs TensorRT on a GPU; device is "cpu"')
        if not installed.with_tensorrt:
            raise ConfigError(
                f'precision="{options.precision}" needs TensorRT, which {what} is built without'
            )
    if options.onednn is True:
        if on_gpu:
            raise ConfigError("onednn=True is for the CPU; leave it out on a GPU")
        if not installed.onednn:
            raise ConfigError(f"onednn=True, but {what} is built without oneDNN")


def _refuse_missing_gpu(options: RuntimeOptions, installed: InstalledPaddle, what: str) -> None:
    listed = ", ".join(options.devices)
    if not installed.with_cuda:
        raise ConfigError(
            f'device {listed}: {what} is built without CUDA; use device="cpu" or install paddlepaddle-gpu'
        )
    count = installed.module.device.cuda.device_count()
    for device in options.devices:
        if int(device.partition(":")[2]) >= count:
            raise ConfigError(f"device {device}: this process sees {count} GPUs")


def fault_context_of(spec: ModelSpec, options: RuntimeOptions, installed: InstalledPaddle) -> FaultContext:
    """Collects what decides which of Paddle's known faults the model would meet."""
    assert spec.program_path is not None
    onednn = options.devices[0] == "cpu" and installed.onednn and options.onednn is not False
    if onednn and options.onednn == "auto" and options.precision != "bfloat16":
        onednn = onednn_by_default(installed)
    return FaultContext(
        version=installed.version_numbers,
        onednn=onednn,
        ir_optim=options.ir_optim,
        legacy=spec.format.is_legacy,
        processor=cpu_flags(),
        program=read_whole(spec.program_path),
    )


def build_config(
    spec: ModelSpec,
    options: RuntimeOptions,
    installed: InstalledPaddle,
    device: str,
    resolved: ResolvedOptions,
    workarounds: Sequence[Workaround] = (),
    program: Path | None = None,
) -> Any:
    """Makes a config for one device, and decides in `resolved` what is in force.

    `program` is a file to load instead of the model's own.
    """
    inference = installed.inference
    # The paths are passed as bytes, because a name need not be UTF-8.
    config = inference.Config(*map(os.fsencode, _model_files(spec)))
    if program is not None:
        config.set_prog_file(os.fsencode(program))
    mended = (name for one in workarounds for name in one.delete_passes)
    for name in dict.fromkeys((*options.delete_passes, *mended)):
        config.delete_pass(name)
    if not options.paddle_log:
        config.disable_glog_info()
    _resolve_params(spec, options, resolved)
    if spec.format is ModelFormat.JSON:
        # Without it Paddle 3.3.1 cannot make a predictor of a .json program with memory optimisation.
        config.enable_new_executor(True)
        config.enable_new_ir(True)
    _set_ir_optim(config, spec, options, resolved, workarounds)
    if options.mem_optim:
        config.enable_memory_optim()
    if device == "cpu":
        _set_cpu(config, spec, options, installed, resolved, workarounds)
    else:
        _set_gpu(config, options, inference, device, resolved)
    config.switch_use_feed_fetch_ops(False)
    config.switch_specify_input_names(True)
    return config


def _model_files(spec: ModelSpec) -> tuple[str, ...]:
    """Returns the arguments of Paddle's Config for this form of model."""
    if spec.model_dir is not None:
        return (str(spec.model_dir),)
    assert spec.program_path is not None
    if spec.params_path is not None:
        return str(spec.program_path), str(spec.params_path)
    # Without parameters a .json program needs the path of a file that need not exist, a legacy one none.
    return str(spec.program_path), str(
        spec.program_path.with_suffix(".pdiparams")
    ) if spec.format is ModelFormat.JSON else ""


def program_file(config: Any) -> str:
    """Returns the path of the program that a config holds."""
    try:
        return str(config.prog_file())
    except UnicodeDecodeError as error:  # Paddle accepts any name, but returns only those in UTF-8
        return os.fsdecode(error.object)


def _resolve_params(spec: ModelSpec, options: RuntimeOptions, resolved: ResolvedOptions) -> None:
    source = resolved.source("params")
    if spec.params_path is None:
        note = "each parameter has a file of its own" if spec.model_dir is not None else "the model has none"
        resolved.decide("params", None, source, note)
    else:
        resolved.decide("params", readable(spec.params_path.name), source)


def _set_ir_optim(
    config: Any,
    spec: ModelSpec,
    options: RuntimeOptions,
    resolved: ResolvedOptions,
    workarounds: Sequence[Workaround],
) -> None:
    config.switch_ir_optim(options.ir_optim)
    note = "; ".join(one.sentence for one in workarounds if one.about == "ir_optim")
    if spec.format is ModelFormat.JSON and not options.ir_optim:
        note = "Paddle runs its passes on .json programs whether this is on or off"
    if spec.format.is_legacy and not options.ir_optim and options.devices[0] == "cpu":
        note = f"a legacy program runs without graph passes and oneDNN; on was worth {WORTH}"
    resolved.decide("ir_optim", bool(config.ir_optim()), resolved.source("ir_optim"), note)


def _enabled(config: Any) -> bool:
    asked = getattr(config, "onednn_enabled", None) or config.mkldnn_enabled
    return bool(asked())


def onednn_by_default(installed: InstalledPaddle) -> bool:
    """Tells whether the installed Paddle runs oneDNN's kernels where nobody asks for them or against them."""
    return installed.onednn and _enabled(installed.inference.Config())


def _call_either(config: Any, new: str, old: str, *arguments: Any) -> None:
    """Calls a method under either name: Paddle 3.3 renamed its mkldnn_ methods to onednn_."""
    getattr(config, new if hasattr(config, new) else old)(*arguments)


def _set_cpu(
    config: Any,
    spec: ModelSpec,
    options: RuntimeOptions,
    installed: InstalledPaddle,
    resolved: ResolvedOptions,
    workarounds: Sequence[Workaround],
) -> None:
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(options.cpu_threads)
    resolved.decide("cpu_threads", int(config.cpu_math_library_num_threads()), resolved.source("cpu_threads"))
    forbidden = next((one.sentence for one in workarounds if one.without_onednn), "")
    if forbidden and (options.onednn is True or options.precision == "bfloat16"):
        asked = "onednn=True" if options.onednn is True else 'precision="bfloat16"'
        raise ConfigError(
            f"{asked} is not possible for {spec.path}: oneDNN stays {forbidden}; give onednn=False"
        )
    if options.onednn is True:
        _call_either(config, "enable_onednn", "enable_mkldnn")
    elif (options.onednn is False or forbidden) and installed.onednn:
        _call_either(config, "disable_onednn", "disable_mkldnn")
    if options.precision == "bfloat16":
        if spec.format.is_legacy and not options.ir_optim:
            raise ConfigError('precision="bfloat16" needs ir_optim=True for a legacy program')
        _call_either(config, "enable_onednn", "enable_mkldnn")
        _set_bfloat16(config)
    on = installed.onednn and _enabled(config)
    if on:
        # With any other capacity Paddle counts the cached kernels without a lock, and crashes under threads.
        _call_either(config, "set_onednn_cache_capacity", "set_mkldnn_cache_capacity", 0)
    resolved.note("gpu_memory_mb", "without effect: on the CPU")
    _report_onednn(on, forbidden, spec, options, installed, resolved, workarounds)


def _report_onednn(
    on: bool,
    forbidden: str,
    spec: ModelSpec,
    options: RuntimeOptions,
    installed: InstalledPaddle,
    resolved: ResolvedOptions,
    workarounds: Sequence[Workaround],
) -> None:
    if options.onednn == "auto" and forbidden:
        resolved.decide("onednn", on, "auto", forbidden)
        return
    notes = [] if options.onednn != "auto" else [f"the default of Paddle {installed.version}"]
    if on and spec.format.is_legacy and not options.ir_optim:
        notes.append("a legacy program uses its kernels with ir_optim=True only")
    if on:
        notes += [one.sentence for one in workarounds if one.about == "onednn"]
    resolved.decide("onednn", on, "paddle" if options.onednn == "auto" else "option", "; ".join(notes))


def _set_bfloat16(config: Any) -> None:
    flags = cpu_flags()
    if "avx512f" not in flags:
        raise ConfigError(
            'precision="bfloat16" needs a processor with AVX-512, which this one lacks; use "float32"'
        )
    _call_either(config, "enable_onednn_bfloat16", "enable_mkldnn_bfloat16")


def _set_gpu(
    config: Any, options: RuntimeOptions, inference: Any, device: str, resolved: ResolvedOptions
) -> None:
    config.enable_use_gpu(options.gpu_memory_mb, int(device.partition(":")[2]))
    if options.precision != "float32":
        kinds = {"float16": inference.PrecisionType.Half, "int8": inference.PrecisionType.Int8}
        config.enable_tensorrt_engine(
            workspace_size=_TENSORRT_WORKSPACE_BYTES,
            min_subgraph_size=_TENSORRT_MIN_SUBGRAPH,
            precision_mode=kinds[options.precision],
            use_static=False,
            use_calib_mode=False,
        )
    resolved.decide("onednn", False, "auto", "for the CPU only")
    resolved.note("cpu_threads", "without effect: on a GPU")
