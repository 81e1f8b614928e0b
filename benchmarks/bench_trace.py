"""What recording costs: throughput with nothing recorded, as by default, and in a trace.

``python -m benchmarks.bench_trace [--quick] [--json FILE]``
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
from pathlib import Path

import numpy as np

from benchmarks import harness
from benchmarks.harness import Callers, Effort, Section, interleave, ratios, spread
from benchmarks.models import directory
from paddleinfer import Engine

MODEL = "mlp"
CALLERS = 16
IN_FLIGHT = 8
NOTHING = "nothing recorded"
# Requests remembered: as by default, and as by default in a trace.
WAYS = {NOTHING: None, "the last 4,096": 4096, "the last 100,000": 100_000}
LEAST_SHARE = 0.98


def measure(effort: Effort) -> Section:
    """Requests a second, of one row each, by many callers of one engine that is told what to record."""
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(Engine(directory(MODEL), batchable=True, trace_requests=0))
        callers = Callers([functools.partial(call, engine)] * CALLERS)
        stack.callback(callers.close)

        def throughput(max_requests: int | None) -> float:
            with contextlib.nullcontext() if max_requests is None else engine.trace(max_requests):
                return IN_FLIGHT * callers.rate(effort.seconds)

        rates = interleave(
            {name: functools.partial(throughput, kept) for name, kept in WAYS.items()}, effort.rounds
        )
    section = Section(f"{MODEL}, {CALLERS} callers", ["way", "requests/s", "unit", "of nothing recorded"])
    for name, values in rates.items():
        shares = ratios(values, rates[NOTHING])
        section.measured(name, values, "1/s", spread(shares))
        if name != NOTHING:
            section.verdict(f"throughput, {name}", statistics.median(shares), at_least=LEAST_SHARE)
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
