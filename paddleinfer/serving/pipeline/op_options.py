"""An Op's configuration -> the options of its engine."""

from __future__ import annotations

from typing import Any, Final

from paddleinfer.backends.processors import usable_cores
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown
from paddleinfer.serving.pipeline.conf import OpConf
from paddleinfer.serving.translated_options import Translation

__all__ = ["translated"]

_CPU, _GPU, _TENSORRT = 0, 1, 2
_BY_DEVICES: Final = -1
_SWITCHES: Final = ("mem_optim", "ir_optim")


def translated(path: str, conf: OpConf) -> Translation:
    """What became of the keys of an Op with a model; `path` is where they stand, such as "op.uci".

    Keys that are not given leave the engine its own defaults.

    Raises
    ------
    ConfigError
        A value is not possible here; the sentence names the key.
    """
    translation = Translation()
    try:
        _take_local(translation, conf.local)
        _take_batching(translation, conf)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return translation


def _take_local(translation: Translation, local: Any) -> None:
    device_type = local.get("device_type", _BY_DEVICES)
    device = _device(device_type, local.get("devices", ""))
    for name in ("device_type", "devices"):
        if name in local:
            translation.take(name, local[name], device=device)
    translation.options["device"] = device
    translation.take_switches(**{name: local[name] for name in _SWITCHES if name in local})
    use_trt = device_type == _TENSORRT
    if use_trt:  # which is one of the passes
        translation.take("ir_optim", local.get("ir_optim", False), ir_optim=True)
    precision = local.get("precision", "fp32")
    if "use_mkldnn" in local or local.get("mkldnn_cache_capacity"):
        translation.take_onednn(local.get("use_mkldnn", False), local.get("mkldnn_cache_capacity", 0))
    if precision.lower() == "bf16" and not local.get("use_mkldnn"):
        raise ConfigError("the precision bf16 needs use_mkldnn: True, on the CPU")
    translation.take_precision(precision, use_trt=use_trt)
    if "thread_num" in local:
        translation.take_count("thread_num", local["thread_num"], 1, "cpu_threads")


def _device(device_type: int, devices: str) -> str | tuple[str, ...]:
    if device_type not in (_BY_DEVICES, _CPU, _GPU, _TENSORRT):
        raise ConfigError(
            f"device_type {device_type} is not offered: paddleinfer runs on the CPU (0) and on NVIDIA's GPUs "
            "(1, and 2 with TensorRT)"
        )
    numbers = [] if devices.strip() in ("", "-1") else [number.strip() for number in devices.split(",")]
    if not all(number.isdigit() for number in numbers):
        raise ConfigError(f"devices must be numbers of GPUs with commas between, not {shown(devices)}")
    if device_type in (_GPU, _TENSORRT) and not numbers:
        raise ConfigError(f'device_type {device_type} needs devices, such as "0": the numbers of its GPUs')
    if device_type == _CPU or not numbers:
        return "cpu"
    return tuple(f"gpu:{number}" for number in numbers)


def _take_batching(translation: Translation, conf: OpConf) -> None:
    values = conf.values
    threads = translation.options.get("cpu_threads", 1)
    if "concurrency" in values:
        asked = values["concurrency"]
        on_cpu = translation.options["device"] == "cpu"
        most = max(1, usable_cores() // threads) if on_cpu else asked
        translation.take("concurrency", asked, instances=min(asked, most))
    rows, delay_ms = values.get("batch_size"), values.get("auto_batching_timeout")
    if rows == 1:
        translation.take("batch_size", rows, batchable=False)
    elif rows is not None:
        translation.take("batch_size", rows, max_batch_size=rows)
    if delay_ms is None or rows == 1 or (delay_ms <= 0 and rows is None):
        return
    if delay_ms <= 0:
        raise ConfigError(
            f"auto_batching_timeout {delay_ms} would have a request wait for {rows} of them however "
            "long they take: give the milliseconds that it may wait, or leave it out"
        )
    translation.take("auto_batching_timeout", delay_ms, max_queue_delay_us=delay_ms * 1000)
