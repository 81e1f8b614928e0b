"""Checks at load that a request can succeed: the model runs one row of made-up values."""

from __future__ import annotations

import functools
import logging
import time

from paddleinfer.backends.paddle.errors import is_about_values
from paddleinfer.engine.example_rows import row_of_numbers, row_of_random
from paddleinfer.engine.loaded import Loaded
from paddleinfer.engine.warmup import run_once
from paddleinfer.errors import InvalidInput, ModelError, ModelLoadError, OutOfMemory
from paddleinfer.models.reader import ModelFormat

__all__ = ["check_runs"]

_log = logging.getLogger("paddleinfer")


def check_runs(loaded: Loaded) -> None:
    """Runs one row on one instance, and reports it.

    It tries ones first, which are valid as ids, lengths, masks and divisors; then zeros, then random numbers.
    A model with integer inputs that refuses all these values may take those of a real request, and one whose
    rows depend on each other may take several where it refuses one: then the engine warns and opens. A
    failure that other values would not change is an error.

    Raises
    ------
    ModelLoadError
        The model cannot run.
    OutOfMemory
        There is not enough memory now to run it.
    """
    spec, resolved = loaded.spec, loaded.resolved
    if not loaded.config.check:
        return
    if spec.format is ModelFormat.CALLABLE:
        resolved.decide("check", False, "auto", "a function is not called before its first request")
        return
    try:
        shapes = loaded.examples.shapes(least=True)
    except InvalidInput as error:
        resolved.decide("check", False, "auto", f"not done: {error}")
        return
    text = ", ".join("x".join(map(str, shape)) or "scalar" for shape in shapes) or "no inputs"
    refusals: list[str] = []
    for make in (
        functools.partial(row_of_numbers, number=1),
        functools.partial(row_of_numbers, number=0),
        row_of_random,
    ):
        try:
            row = make(spec, shapes, loaded.config.batching.max_queue_bytes)
            began = time.perf_counter()
            run_once(loaded.core, row)
        except OutOfMemory as error:
            raise OutOfMemory(
                f"{spec.path} cannot run one row of made-up values ({text}): {error}"
            ) from error.__cause__
        except (ModelError, InvalidInput) as error:
            refusals.append(str(error))
            if not is_about_values(str(error)):
                break
            continue
        took_ms = (time.perf_counter() - began) * 1e3
        resolved.note("check", f"one row ({text}) ran at load, in {took_ms:.0f} ms")
        return
    takes_integers = any(not tensor.dtype.startswith(("float", "bfloat")) for tensor in spec.inputs)
    if (takes_integers or spec.operators_forbid) and is_about_values(refusals[-1]):
        note = f"no row of made-up values ran, and those of a request may: {refusals[0]}"
        resolved.note("check", note)
        _log.warning("%s: at load %s", loaded.label, note)
        return
    origin = loaded.examples.origin
    source = f", as {origin} has it" if origin else ""
    raise ModelLoadError(
        f"{spec.path} cannot run one row of made-up values ({text}{source}): {refusals[-1]}; "
        "example_shapes names other sizes, and check=False loads it all the same"
    )
