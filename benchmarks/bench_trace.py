"""What recording costs: throughput with nothing recorded, as by default, and in a trace.

``python -m benchmarks.bench_trace [--quick] [--json FILE]``
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import Callers, Effort, Section, interleave, ratios, spread
from benchmarks.models import directory
from paddleinfer import Engine

MODEL = "mlp"
CALLERS = 16
IN_FLIGHT = 8
NOTHING, DEFAULT, TRACED = "nothing recorded", "the last 4,096 (the default)", "inside engine.trace()"
LEAST_SHARE = 0.98


def ways() -> dict[str, dict[str, Any]]:
    """Name -> options."""
    return {NOTHING: {"trace_requests": 0}, DEFAULT: {}, TRACED: {}}


def measure(effort: Effort) -> Section:
    """Requests a second, of one row each, by many callers."""
    path = directory(MODEL)
    with contextlib.ExitStack() as stack:
        callers: dict[str, Callers] = {}
        engines: dict[str, Engine] = {}
        for name, options in ways().items():
            engines[name] = engine = stack.enter_context(Engine(path, batchable=True, **options))
            callers[name] = Callers([functools.partial(call, engine)] * CALLERS)
            stack.callback(callers[name].close)

        def throughput(name: str) -> float:
            with engines[name].trace() if name == TRACED else contextlib.nullcontext():
                return IN_FLIGHT * callers[name].rate(effort.seconds)

        rates = interleave({name: functools.partial(throughput, name) for name in engines}, effort.rounds)
    section = Section(f"{MODEL}, {CALLERS} callers", ["way", "requests/s", "unit", "of nothing recorded"])
    for name, values in rates.items():
        section.measured(name, values, "1/s", spread(ratios(values, rates[NOTHING])))
        if name != NOTHING:
            share = statistics.median(ratios(values, rates[NOTHING]))
            section.verdict(f"throughput, {name}", share, at_least=LEAST_SHARE)
    return section


def call(engine: Engine) -> None:
    """Several requests at once, so that the callers cost little and the engine is what is measured."""
    x = np.ones((1, 128), np.float32)
    for future in [engine.submit([x]) for _ in range(IN_FLIGHT)]:
        future.result()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    effort = Effort.of(options.quick)
    section = measure(effort)
    harness.show(section)
    if options.json:
        harness.write_json(options.json, {"trace": section}, vars(effort))


if __name__ == "__main__":
    main()
