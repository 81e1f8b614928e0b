"""Decides at load which backend ``backend="auto"`` is: a short look measures those that are installed."""

from __future__ import annotations

import contextlib
import functools
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from paddleinfer.backends.runtimes import installed_runtimes
from paddleinfer.config import BACKENDS, OF_PADDLE_ALONE, Backend, EngineConfig
from paddleinfer.engine.agreement import has_free_rows
from paddleinfer.engine.example_rows import ExampleShapes
from paddleinfer.engine.made_up_inputs import made_up
from paddleinfer.engine.opening import Opening
from paddleinfer.errors import InvalidInput, PaddleInferError
from paddleinfer.models.reader import ModelFormat, ModelSpec
from paddleinfer.resolved_options import ResolvedOptions
from paddleinfer.sentences import listed, shortened

__all__ = ["OpenTrial", "choose_backend", "fastest"]

_log = logging.getLogger("paddleinfer")

_LONGEST_S = 2.0
_FEWEST_RUNS, _MOST_RUNS = 3, 50
# Another backend must take less than this share of Paddle's time; a smaller gain is noise, or not worth it.
_WORTH = 0.9

OpenTrial = Callable[[EngineConfig], AbstractContextManager[Callable[[Mapping[str, Any]], object]]]
"""Opens an engine for a block, which gives its ``infer``."""


def choose_backend(
    spec: ModelSpec, config: EngineConfig, load: Opening, open_trial: OpenTrial | None
) -> tuple[Backend, str]:
    """Returns the backend, and a sentence that says why.

    Parameters
    ----------
    spec
        The model.
    config
        The engine's options, with ``backend="auto"``.
    load
        The load that this belongs to.
    open_trial
        Opens an engine of this model; None measures nothing.

    Raises
    ------
    EngineClosed
        The load was ended meanwhile.
    """
    installed = installed_runtimes()
    others = [name for name in BACKENDS if name in installed and name != "paddle"]
    if spec.format is ModelFormat.ONNX:
        return next(iter(others), "onnxruntime"), "Paddle does not run a .onnx file"
    if open_trial is None:
        return "paddle", "nothing was measured"
    if not others:
        return "paddle", "no other runtime that could run the model is installed"
    of_paddle = [name for name in OF_PADDLE_ALONE if config.gives(name)]
    if of_paddle:
        return "paddle", f"{listed(of_paddle)} acts on Paddle alone"
    try:
        shapes = ExampleShapes(spec, config, ResolvedOptions(config)).shapes()
    except InvalidInput as error:
        return "paddle", f"nothing was measured: {error}"
    rows = [
        (1, *shape[1:]) if shape and has_free_rows(tensor) else shape
        for tensor, shape in zip(spec.inputs, shapes, strict=True)
    ]
    inputs = dict(zip((tensor.name for tensor in spec.inputs), made_up(spec.inputs, rows), strict=True))
    if not inputs:
        return "paddle", "the model has no inputs to measure it with"
    refused: list[str] = []
    with contextlib.ExitStack() as trials:
        runs: dict[Backend, Callable[[], object]] = {}
        tried: tuple[Backend, ...] = ("paddle", *others)
        for name in tried:
            load.check()
            try:
                infer = trials.enter_context(open_trial(_trial_config(config, name)))
            except PaddleInferError as error:
                if name == "paddle":
                    return "paddle", f"nothing was measured: {shortened(str(error))}"
                refused.append(f"{name} is not possible: {shortened(str(error))}")
                continue
            runs[name] = functools.partial(infer, inputs)
        load.check()
        try:
            best, sentence = fastest(runs)
        except PaddleInferError as error:
            best, sentence = "paddle", f"one row of made-up values failed: {shortened(str(error))}"
    found = "; ".join([sentence, *refused])
    _log.info('%s: backend="auto" is %s: %s', spec.path, best, found)
    return best, found


def _trial_config(config: EngineConfig, backend: Backend) -> EngineConfig:
    """Returns the options of one instance that is compared with Paddle, and keeps nothing."""
    return replace(
        config,
        runtime=replace(config.runtime, backend=backend, instances=1),
        batching=replace(config.batching, pad=()),
        check=True,
        check_load="here",
        warmup=False,
        trace_requests=0,
        cache_bytes=0,
        tuning_file=None,
    )


def fastest(
    runs: Mapping[Backend, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> tuple[Backend, str]:
    """Runs each in turn for a short while; returns the name of the fastest, and a sentence with the times.

    Paddle is chosen unless another one is clearly faster.

    Parameters
    ----------
    runs
        Backend -> what runs one request; the first is Paddle's.
    clock
        Returns the time in seconds.
    """
    if len(runs) == 1:
        return "paddle", "nothing was measured, for no other runtime can run the model"
    began_s = clock()
    times_s: dict[Backend, list[float]] = {name: [] for name in runs}
    for number in range(_MOST_RUNS + 1):
        for name, run in runs.items():
            before_s = clock()
            if before_s - began_s + max(times_s[name], default=0.0) > _LONGEST_S:
                break
            run()
            if number:  # the first makes kernels
                times_s[name].append(clock() - before_s)
        else:
            continue
        break
    if min(map(len, times_s.values())) < _FEWEST_RUNS:
        return (
            "paddle",
            f"runs take too long to compare them in {_LONGEST_S:g} s",
        )
    medians_s = {name: statistics.median(times) for name, times in times_s.items()}
    best = min(medians_s, key=lambda name: medians_s[name])
    texts = ", ".join(f"{name} {median_s * 1e3:.3g} ms" for name, median_s in medians_s.items())
    took = f"one row, measured for {clock() - began_s:.1f} s at load"
    return best if medians_s[best] < _WORTH * medians_s["paddle"] else "paddle", f"{took}: {texts}"
