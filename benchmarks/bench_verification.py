"""Measures what verification costs: throughput with and without it, with callers that pause or do not.

If callers never pause, no instance is idle for long and hardly anything is verified; if they pause,
verification runs in the pauses. ``never, again`` shows how far one engine differs from another.

``python -m benchmarks.bench_verification [--quick] [--json FILE]``
"""

from __future__ import annotations

import contextlib
import functools
import gc
import statistics
import time

import numpy as np

from benchmarks import harness
from benchmarks.harness import Section, interleave, ratios
from benchmarks.models import directory
from paddleinfer import Engine
from paddleinfer.traffic.callers import Callers, call_from_threads

MODEL = "mlp"
CALLERS = 8
IN_FLIGHT = 8
WINDOW_S = 0.2
ROUNDS = 60
QUICK_ROUNDS = 10
LEAST_SHARE = 0.99

NEVER = "never"
EVERY = {NEVER: 0, "never, again": 0, "one in 1,000, the default": 1000, "one in 100": 100}
PAUSES_S = {"callers that never pause": 0.0, "callers that pause for 5 ms": 0.005}


def throughput(engine: Engine, pause_s: float) -> float:
    """Returns results a second in one window of callers with several futures each."""
    x = np.ones((1, 128), np.float32)

    def ask(_: int) -> None:
        for future in [engine.submit([x]) for _ in range(IN_FLIGHT)]:
            future.result()
        if pause_s:
            time.sleep(pause_s)

    tally = call_from_threads(Callers(CALLERS, WINDOW_S, fewest=CALLERS), ask)
    return len(tally.ended_s) * IN_FLIGHT / tally.seconds


def measure(title: str, pause_s: float, rounds: int) -> Section:
    """Measures one engine for each variant, one after the other in every round."""
    section = Section(
        f"{MODEL}, {CALLERS * IN_FLIGHT} requests of one row under way, {title}: "
        f"medians of {rounds} windows of {WINDOW_S:g} s (and quarters)",
        ["verified", "results/s", "of never", "requests verified", "of requests"],
    )
    with contextlib.ExitStack() as stack:
        engines = {
            name: stack.enter_context(Engine(directory(MODEL), verify_every=every))
            for name, every in EVERY.items()
        }
        for engine in engines.values():  # the first comparisons are over
            throughput(engine, pause_s)
            throughput(engine, 0)
        before = {name: engine.stats() for name, engine in engines.items()}
        # The windows are short, so a collection of all imported objects would hit a single variant.
        gc.collect()
        gc.freeze()
        rates = interleave(
            {name: functools.partial(throughput, engine, pause_s) for name, engine in engines.items()}, rounds
        )
        for name, values in rates.items():
            after = engines[name].stats()
            verified = after["verified_requests"] - before[name]["verified_requests"]
            share = verified / (after["results"] - before[name]["results"])
            shares = ratios(values, rates[NEVER])
            first, median, third = statistics.quantiles(shares, n=4)
            section.raw[name] = values
            section.raw[f"{name}, requests verified"] = [float(verified)]
            section.rows.append(
                [
                    name,
                    f"{statistics.median(values):,.0f}",
                    f"{median:.3f} ({first:.3f} to {third:.3f})",
                    f"{verified:,}",
                    f"{share:.4%}",
                ]
            )
            if EVERY[name] == 1000:
                section.verdict("throughput with verification", median, at_least=LEAST_SHARE)
    return section


def main() -> None:
    """Measures, prints and writes; the module describes it."""
    options = harness.options_of(__doc__)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    sections = {}
    for title, pause_s in PAUSES_S.items():
        sections[title] = measure(title, pause_s, rounds)
        harness.show(sections[title])
    if options.json:
        harness.write_json(options.json, sections, {"rounds": rounds, "window_s": WINDOW_S})


if __name__ == "__main__":
    main()
