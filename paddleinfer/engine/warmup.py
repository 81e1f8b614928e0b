"""Warms an engine up: every instance runs every batch size, and rows are compared alone and together."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.config import is_int
from paddleinfer.engine.example_rows import row_of_random
from paddleinfer.engine.loaded import Loaded
from paddleinfer.errors import ConfigError, InvalidInput
from paddleinfer.models.spec import Batchable
from paddleinfer.sentences import shown

__all__ = ["WarmedSize", "WarmupReport", "run_once", "varied", "warmup"]

_log = logging.getLogger("paddleinfer")

Array = npt.NDArray[Any]

# Runs of each size on each instance; the first makes kernels and is not counted.
_FEWEST_RUNS = 3
_MOST_RUNS = 20
_ENOUGH_US = 20_000.0


@dataclass(frozen=True)
class WarmupReport:
    """The results of a warm-up."""

    run_us: dict[int, float]
    """Rows -> the mean microseconds of a run of so many."""
    largest_difference: dict[str, float]
    """Output -> the largest difference between a row alone and in a batch, over the largest magnitude."""
    batchable: bool
    """Whether requests may share a run."""


@dataclass(frozen=True)
class WarmedSize:
    """The run times of one batch size."""

    rows: int
    alone_us: float
    """The time while no other instance ran."""
    together_us: float
    """The time while all instances ran."""


def warmup(
    loaded: Loaded,
    inputs: Any,
    batch_sizes: Sequence[int] | None,
    note: Callable[[WarmedSize], object],
) -> WarmupReport:
    """Does what ``Engine.warmup`` says. `note` is called with each size that was measured."""
    core = loaded.core
    row = _example_row(loaded, inputs)
    core.poll_updates()
    merges = loaded.resolved.batchable is not Batchable.NO
    row_bytes = sum(array.nbytes for array in row)
    sizes = _sizes(loaded, batch_sizes, row_bytes) if merges else [1]
    instances = loaded.resolved.instances
    for size in sizes:
        feeds = [np.repeat(array, size, axis=0) for array in row]
        alone_us = _taken_us(core, feeds, 1) if instances > 1 else []
        together_us = _taken_us(core, feeds, instances)
        note(WarmedSize(size, *map(statistics.median, (alone_us or together_us, together_us))))
    differences = _compare(core, row, sizes[-1]) if merges and sizes[-1] > 1 else {}
    failed = {name: value for name, (value, equal) in differences.items() if not equal}
    if merges and sizes[-1] > 1:
        reason = "; ".join(
            f"output {name} of a row differs by {value:.2g} of its magnitude between the row alone and "
            f"{sizes[-1]} rows together"
            for name, value in failed.items()
        )
        core.set_batchable(not failed, reason)
    return WarmupReport(
        run_us={size: core.predicted_run_ns(row, size) / 1e3 for size in sizes},
        largest_difference={name: value for name, (value, _) in differences.items()},
        batchable=merges and not failed,
    )


def _taken_us(core: _ext.Core, feeds: list[Array], instances: int) -> list[float]:
    """Returns the microseconds of runs on `instances` instances at once, without each one's first run."""
    taken_us: list[float] = []
    for run in range(_MOST_RUNS):
        handles = [core.warmup(feeds, instance) for instance in range(instances)]
        for handle in handles:
            handle.wait(None)
            handle.result()
            info = handle.info()
            if run > 0 and info is not None:
                taken_us.append(info["run_us"])
        if run + 1 >= _FEWEST_RUNS and sum(taken_us) >= _ENOUGH_US * instances:
            break
    return taken_us


def _example_row(loaded: Loaded, inputs: Any) -> list[Array]:
    if inputs is not None:
        arrays = loaded.converter(inputs)
        for tensor, array in zip(loaded.spec.inputs, arrays, strict=True):
            if array.ndim and len(array) != 1:
                raise InvalidInput(f"the example for {shown(tensor.name)} must be one row, not {len(array)}")
        return arrays
    most_bytes = loaded.config.batching.max_queue_bytes
    return row_of_random(loaded.spec, loaded.examples.shapes(), most_bytes)


def _sizes(loaded: Loaded, batch_sizes: Sequence[int] | None, row_bytes: int) -> list[int]:
    batching = loaded.config.batching
    if batch_sizes is not None:
        sizes = sorted(set(batch_sizes))
        if not sizes or not all(is_int(n) and 1 <= n <= batching.most_rows for n in sizes):
            raise ConfigError(
                f"batch_sizes must be integers from 1 to {batching.most_rows}, not {shown(batch_sizes)}"
            )
        return sizes
    if batching.allowed_batch_sizes:
        return list(batching.allowed_batch_sizes)
    sizes = [1]
    # A batch cannot have more rows than may wait.
    while sizes[-1] < batching.most_rows and 2 * sizes[-1] * row_bytes <= batching.max_queue_bytes:
        sizes.append(min(2 * sizes[-1], batching.most_rows))
    return sizes


def _compare(core: _ext.Core, row: list[Array], count: int) -> dict[str, tuple[float, bool]]:
    """Returns output -> (largest difference between rows alone and together, whether it counts as equal)."""
    feeds = [varied(array, count) for array in row]
    together = run_once(core, feeds)
    checked = sorted({0, count // 2, count - 1})
    alone = [run_once(core, [array[place : place + 1] for array in feeds]) for place in checked]
    differences = {}
    for name, output in together.items():
        if output.ndim == 0 or len(output) != count:
            differences[name] = (float("inf"), False)
            continue
        largest = _ext.largest_magnitude(output)
        found = [
            _ext.compare(output[place : place + 1], single[name], largest)
            for place, single in zip(checked, alone, strict=True)
        ]
        differences[name] = (max(value for value, _ in found), all(equal for _, equal in found))
    return differences


def varied(array: Array, count: int) -> Array:
    """Makes rows that differ: the example times 1, 1/2, 1/3..., so that all stay in its range."""
    rows = np.repeat(array, count, axis=0)
    if array.dtype.kind in "iub":
        return rows
    divisors = np.arange(1, count + 1).reshape(count, *[1] * (array.ndim - 1))
    return np.ascontiguousarray((rows.astype("float64") / divisors).astype(array.dtype))


def run_once(core: _ext.Core, feeds: Sequence[Array]) -> dict[str, Array]:
    """Runs the model on its first instance, in no batch of others, and returns the outputs.

    Raises
    ------
    ModelError
        The model fails; the sentence is its own.
    """
    handle = core.warmup(list(feeds), 0)
    handle.wait(None)
    return handle.result()
