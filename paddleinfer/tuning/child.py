"""One setting in a process of its own: it loads the model, compares its answers, and measures on demand.

It answers each order by a line of JSON: what it found, or why it gives up.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.backends.processors import resident_memory_bytes
from paddleinfer.child_process import read_order
from paddleinfer.config import EngineConfig
from paddleinfer.engine.differences import difference_with_ties
from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError, ModelLoadError, PaddleInferError
from paddleinfer.sentences import shortened, shown
from paddleinfer.tuning.load import Load
from paddleinfer.tuning.samples import Fell, Sample

__all__ = ["ChildOrder", "difference_from", "run"]

Array = npt.NDArray[Any]
Answers = Mapping[str, Array]

# A model that takes longer for one request is not warmed up by a part of the load.
_LONGEST_TO_WARM_S = 0.2


@dataclass(frozen=True)
class ChildOrder:
    """What a child gets."""

    path: str
    config: EngineConfig
    load: Load
    cases: Sequence[Mapping[str, Array]]
    """Inputs on which the answers are compared."""
    wanted: Sequence[Answers]
    """Paddle's answers to each of them, with its defaults."""
    warm_s: float
    """Seconds of the load before it is measured."""
    answers: int
    """The file descriptor for its lines."""


def run() -> None:
    """Runs in the child, until its standard input ends."""
    order: ChildOrder = read_order()
    with os.fdopen(order.answers, "wb", buffering=0) as answers:
        try:
            _serve(order, answers)
        except Fell as fell:
            _say(answers, {"outcome": fell.outcome, "reason": shortened(fell.reason)})
        except Exception as error:
            _say(answers, {"outcome": "refused", "reason": shortened(f"{type(error).__name__}: {error}")})
    os._exit(0)  # how Paddle's process exits does not matter


def _serve(order: ChildOrder, answers: Any) -> None:
    try:
        engine = Engine(order.path, order.config)
    except (ConfigError, ModelLoadError) as error:
        raise Fell("refused", str(error)) from error
    for case, wanted in zip(order.cases, order.wanted, strict=True):
        try:
            given = engine.infer(case)
        except PaddleInferError as error:
            raise Fell("refused", f"it fails where Paddle answers: {error}") from error
        sentence = difference_from(given, wanted)
        if sentence:
            raise Fell("differs", sentence)
    for _ in range(int(engine.effective_config()["instances"]["value"])):
        began = time.perf_counter()
        engine.infer(order.cases[0])
    run_s = time.perf_counter() - began
    if run_s < _LONGEST_TO_WARM_S:
        order.load.drive(0, order.warm_s, engine.infer, engine.submit)
    values = {name: line["value"] for name, line in engine.effective_config().items()}
    plain = {name: value for name, value in values.items() if isinstance(value, (bool, int, float, str))}
    _say(answers, {"outcome": "measured", "in_force": plain, "run_s": run_s})
    for line in sys.stdin.buffer:
        number, seconds = line.split()
        sample = _sample(engine, order.load, int(number), float(seconds))
        _say(answers, {"outcome": "measured", "sample": asdict(sample)})


def _sample(engine: Engine, load: Load, number: int, seconds: float) -> Sample:
    tally, rows = load.drive(number, seconds, engine.infer, engine.submit)
    lost = tally.refused + tally.late
    if not tally.latencies_ms:
        raise Fell("too slow", f"none of {tally.sent} requests was answered in a round")
    p50_ms, p99_ms = np.percentile(tally.latencies_ms, (50, 99))
    return Sample(
        rows_per_s=len(tally.latencies_ms) * rows / max(tally.seconds, seconds),
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
        memory_bytes=resident_memory_bytes(),
        lost=lost,
    )


def difference_from(given: Answers, wanted: Answers) -> str:
    """Says which output differs from Paddle's by more than the tolerance across runtimes; empty if none does.

    Parameters
    ----------
    given, wanted
        Output -> its result, of the setting and of Paddle with its defaults.
    """
    largest = {name: _ext.largest_magnitude(output) for name, output in wanted.items()}
    for name in wanted:
        difference, allowed = difference_with_ties(name, given[name], wanted, largest)
        if difference > allowed:
            return (
                f"output {shown(name)} differs by {difference:.2g} from Paddle's with its defaults, where "
                f"{allowed:.2g} is allowed"
            )
    return ""


def _say(answers: Any, line: Mapping[str, Any]) -> None:
    answers.write(json.dumps(line).encode() + b"\n")
