"""Decides how many instances a model has, what they take, and who may run them."""

from __future__ import annotations

from typing import Final

from paddleinfer.backends.processors import free_memory_bytes, usable_cores
from paddleinfer.config import RuntimeOptions
from paddleinfer.models.reader import ModelSpec
from paddleinfer.resolved_options import ResolvedOptions

__all__ = ["choose_inline", "choose_instances", "is_small", "memory_bytes", "weight_bytes"]

# The most that the weights of all further predictors, those without oneDNN, may take.
_MOST_CHOICE_BYTES: Final = 64 << 20


def choose_instances(
    spec: ModelSpec, options: RuntimeOptions, devices: int, resolved: ResolvedOptions
) -> int:
    """Decides how many instances there are, over all devices."""
    if options.instances != "auto":
        count = max(options.instances, devices)
        note = f"one for each of {devices} devices" if count != options.instances else ""
        resolved.decide("instances", count, "option", note)
        return count
    if options.devices[0] != "cpu":
        resolved.decide("instances", devices, "auto", "one for each device")
        return devices
    cores = usable_cores()
    count = max(1, cores // options.cpu_threads)
    note = f"{cores} usable cores, {options.cpu_threads} a predictor"
    free = free_memory_bytes()
    while count > 1 and free is not None and memory_bytes(spec, count, resolved) > free // 2:
        count //= 2
        note = f"{note}; halved to fit half of the free memory"
    resolved.decide("instances", count, "auto", note)
    return count


def memory_bytes(spec: ModelSpec, instances: int, resolved: ResolvedOptions) -> int:
    """Estimates the bytes of all instances' weights: shared ones count once, oneDNN's copies per thread."""
    weights = weight_bytes(spec)
    shared = spec.format.is_legacy or resolved.shares_weights
    copies = 1 if shared else instances
    reordered = instances if resolved.onednn else 0
    return weights * (copies + reordered)


def weight_bytes(spec: ModelSpec) -> int:
    """The bytes of the model's parameter files, as they were when it was read."""
    return sum(
        file.size
        for file in spec.files
        if file.path == spec.params_path or (spec.model_dir is not None and file.path != spec.program_path)
    )


def is_small(spec: ModelSpec, program: bytes, instances: int) -> bool:
    """Tells whether each instance can have a predictor without oneDNN, too, for sizes where that is faster.

    oneDNN has a fixed cost a run, so that it may be slower for small batches. With convolutions the runs are
    long, and much faster with it.
    """
    return b"conv" not in program and instances * weight_bytes(spec) <= _MOST_CHOICE_BYTES


def choose_inline(
    options: RuntimeOptions, native: bool, chooses_kernels: bool, resolved: ResolvedOptions
) -> None:
    """Decides whether a caller's thread may run the model."""
    reasons = {
        "turned off": not options.inline,
        "runs through Python": not native,
        "on a GPU": options.devices[0] != "cpu",
        "oneDNN keeps copies of the weights per thread": resolved.onednn and not chooses_kernels,
        "cpu_threads above 1 would make threads for each caller": options.cpu_threads > 1,
    }
    reason = next((text for text, holds in reasons.items() if holds), "")
    note = reason or "a lone caller without a deadline runs the model itself, while runs take under 2 ms"
    if not reason and chooses_kernels:
        note += ", and once they are known to be faster without oneDNN"
    overruled = options.inline and bool(reason)
    resolved.decide("inline", not reason, "auto" if overruled else resolved.source("inline"), note)
