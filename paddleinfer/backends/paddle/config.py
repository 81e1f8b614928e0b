"""Options -> a ``paddle.inference.Config``, and what Paddle made of them."""

from __future__ import annotations

from typing import Any

from paddleinfer.config import RuntimeOptions
from paddleinfer.errors import ConfigError
from paddleinfer.installed_paddle import InstalledPaddle
from paddleinfer.model import ModelSpec
from paddleinfer.settings import Settings

__all__ = ["build_config", "refuse_impossible"]

# Paddle's TensorRT subgraphs: what its own documentation proposes.
_TENSORRT_WORKSPACE_BYTES = 1 << 30
_TENSORRT_MIN_SUBGRAPH = 3


def refuse_impossible(options: RuntimeOptions, installed: InstalledPaddle) -> None:
    """Refuses what the installed Paddle cannot do.

    Raises
    ------
    ConfigError
        One sentence that names the option and what would make it possible.
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


def build_config(
    spec: ModelSpec, options: RuntimeOptions, installed: InstalledPaddle, device: str, settings: Settings
) -> Any:
    """A config for one device. Reports into `settings` what is in force."""
    inference = installed.module.inference
    config = inference.Config(*_model_files(spec))
    if not options.paddle_log:
        config.disable_glog_info()
    settings.put("paddle_log", options.paddle_log, "option" if options.paddle_log else "default")
    if spec.format == "json":
        # Paddle 3.3.1 cannot make a predictor of a .json program with memory optimisation otherwise.
        config.enable_new_executor(True)
        config.enable_new_ir(True)
    _set_ir_optim(config, spec, options, settings)
    _set_mem_optim(config, options, settings)
    if device == "cpu":
        _set_cpu(config, spec, options, installed, settings)
    else:
        _set_gpu(config, options, inference, device, settings)
    config.switch_use_feed_fetch_ops(False)
    config.switch_specify_input_names(True)
    return config


def _model_files(spec: ModelSpec) -> tuple[str, ...]:
    """The arguments of Paddle's Config for this form of model."""
    if spec.model_dir is not None:
        return (str(spec.model_dir),)
    assert spec.program_path is not None
    if spec.params_path is not None:
        return str(spec.program_path), str(spec.params_path)
    # Without parameters a .json program wants the path of a file that need not be there, a legacy one none.
    return str(spec.program_path), str(
        spec.program_path.with_suffix(".pdiparams")
    ) if spec.format == "json" else ""


def _set_ir_optim(config: Any, spec: ModelSpec, options: RuntimeOptions, settings: Settings) -> None:
    config.switch_ir_optim(options.ir_optim)
    note = ""
    if spec.format == "json" and not options.ir_optim:
        note = "Paddle runs its passes on .json programs whether this is on or off"
    settings.put("ir_optim", bool(config.ir_optim()), options.source("ir_optim"), note)


def _set_mem_optim(config: Any, options: RuntimeOptions, settings: Settings) -> None:
    if options.mem_optim:
        config.enable_memory_optim()
    settings.put("mem_optim", options.mem_optim, options.source("mem_optim"))


def _enabled(config: Any) -> bool:
    asked = getattr(config, "onednn_enabled", None) or config.mkldnn_enabled
    return bool(asked())


def _call_either(config: Any, new: str, old: str, *arguments: Any) -> None:
    """Paddle 3.3 renamed its mkldnn_ methods to onednn_."""
    getattr(config, new if hasattr(config, new) else old)(*arguments)


def _set_cpu(
    config: Any, spec: ModelSpec, options: RuntimeOptions, installed: InstalledPaddle, settings: Settings
) -> None:
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(options.cpu_threads)
    settings.put("cpu_threads", int(config.cpu_math_library_num_threads()), options.source("cpu_threads"))
    if options.onednn is True:
        _call_either(config, "enable_onednn", "enable_mkldnn")
    elif options.onednn is False and installed.onednn:
        _call_either(config, "disable_onednn", "disable_mkldnn")
    if options.precision == "bfloat16":
        if spec.format != "json" and not options.ir_optim:
            raise ConfigError('precision="bfloat16" needs ir_optim=True for a legacy program')
        _call_either(config, "enable_onednn", "enable_mkldnn")
        _set_bfloat16(config)
    on = installed.onednn and _enabled(config)
    note = "" if options.onednn != "auto" else f"the default of Paddle {installed.version}"
    if on:
        # Any other capacity counts the cached kernels without a lock, and crashes under threads.
        _call_either(config, "set_onednn_cache_capacity", "set_mkldnn_cache_capacity", 0)
    if on and spec.format != "json" and not options.ir_optim:
        note = "; ".join(filter(None, (note, "a legacy program uses its kernels with ir_optim=True only")))
    settings.put(
        "gpu_memory_mb", options.gpu_memory_mb, options.source("gpu_memory_mb"), "without effect: on the CPU"
    )
    settings.put("onednn", on, "paddle" if options.onednn == "auto" else "option", note)
    settings.put("precision", options.precision, options.source("precision"))


def _set_bfloat16(config: Any) -> None:
    flags = _cpu_flags()
    if "avx512f" not in flags:
        raise ConfigError(
            'precision="bfloat16" needs a processor with AVX-512, which this one has not; use "float32"'
        )
    _call_either(config, "enable_onednn_bfloat16", "enable_mkldnn_bfloat16")


def _cpu_flags() -> frozenset[str]:
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("flags"):
                return frozenset(line.split())
    return frozenset()


def _set_gpu(config: Any, options: RuntimeOptions, inference: Any, device: str, settings: Settings) -> None:
    config.enable_use_gpu(options.gpu_memory_mb, int(device.partition(":")[2]))
    settings.put("gpu_memory_mb", options.gpu_memory_mb, options.source("gpu_memory_mb"))
    if options.precision != "float32":
        kinds = {"float16": inference.PrecisionType.Half, "int8": inference.PrecisionType.Int8}
        config.enable_tensorrt_engine(
            workspace_size=_TENSORRT_WORKSPACE_BYTES,
            min_subgraph_size=_TENSORRT_MIN_SUBGRAPH,
            precision_mode=kinds[options.precision],
            use_static=False,
            use_calib_mode=False,
        )
    settings.put("precision", options.precision, options.source("precision"))
    settings.put("onednn", False, "auto", "for the CPU only")
    settings.put(
        "cpu_threads", options.cpu_threads, options.source("cpu_threads"), "without effect: on a GPU"
    )
