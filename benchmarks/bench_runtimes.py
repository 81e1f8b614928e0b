"""Measures each installed runtime: bare from two threads, and through an engine with two instances.

``python -m benchmarks.bench_runtimes [--quick] [--only SECTION ...] [--json FILE]``
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Effort, Section, differences, interleave, ratios, spread
from benchmarks.runtimes.cases import CASES, OTHERS, PADDLE, installed
from benchmarks.runtimes.variants import CALLERS, ENGINE, INSTANCES, TOLERANCE, helper

# How much longer windows are, because a page takes a third of a second.
SLOWNESS = 2.0
OF_BARE = 0.95
INLINE_US, HANDED_OVER_US = 3.0, 10.0
INSTANCE_MB = 10.0
REPEATS = 3


def throughput(name: str, runtimes: Sequence[str], effort: Effort) -> Section:
    """Measures one model: each runtime has a process of its own, and one variant runs at a time."""
    case = CASES[name]
    table = Section(
        f"{name}: rows per second, two threads of the bare runtime, {CALLERS} callers of the engine "
        f"({INSTANCES} instances)",
        ["runtime", "variant", "rows/s", "of the best bare", "of the Paddle engine", "most apart"],
    )
    with contextlib.ExitStack() as closing:
        apart: dict[str, float] = {}
        variants: dict[tuple[str, str], Callable[[float], float]] = {}
        for runtime in runtimes:
            one = closing.enter_context(contextlib.closing(helper(name, runtime)))
            names, apart[runtime] = one.answer()
            variants |= {(runtime, variant): functools.partial(_asked, one, variant) for variant in names}
        seconds = effort.seconds * SLOWNESS
        measured = interleave(
            {key: functools.partial(ask, seconds) for key, ask in variants.items()}, effort.rounds
        )
    bare = {
        runtime: max(
            (rates for (other, variant), rates in measured.items() if other == runtime and variant != ENGINE),
            key=statistics.median,
        )
        for runtime in runtimes
    }
    of_paddle = {}
    for (runtime, variant), rates in measured.items():
        shares = ratios(rates, bare[runtime])
        gains = ratios(rates, measured[PADDLE, ENGINE])
        table.raw |= {f"{runtime}, {variant}": rates, f"{runtime}, {variant}, of the bare": shares}
        error = f"{apart[runtime]:.1g}" if variant == ENGINE else ""
        table.rows.append([runtime, variant, spread(rates), spread(shares), spread(gains), error])
        if variant == ENGINE and runtime != PADDLE:
            of_paddle[runtime] = statistics.median(gains)
            table.verdict(f"{runtime}: of the best bare", statistics.median(shares), at_least=OF_BARE)
            table.verdict(f"{runtime}: apart from the bare runtime", apart[runtime], at_most=TOLERANCE)
    if case.times_paddle is not None and of_paddle:
        best = max(of_paddle, key=lambda runtime: of_paddle[runtime])
        table.verdict(f"{best}: times the Paddle engine", of_paddle[best], at_least=case.times_paddle)
    return table


def _asked(one: harness.Helper, variant: str, seconds: float) -> float:
    one.tell([variant, seconds])
    return float(one.answer())


def latency(effort: Effort) -> Section:
    """Measures one caller of the MLP, one row each, against onnxruntime's own call."""
    measured = harness.child("runtimes.variants", "latency", str(effort.rounds), str(effort.calls))
    table = Section(
        "one caller, MLP, one row: p50 of onnxruntime", ["variant", "p50", "unit", "more than bare"]
    )
    for variant, limit in (("bare", None), ("inline", INLINE_US), ("handed over", HANDED_OVER_US)):
        more = differences(measured[variant], measured["bare"])
        table.measured(variant, measured[variant], "us", spread(more))
        if limit is not None:
            table.verdict(f"{variant}: us more than session.run", statistics.median(more), at_most=limit)
    return table


def memory(runtimes: Sequence[str]) -> Section:
    """Measures what a second instance of 88 MB of weights costs, each in processes of its own."""
    table = Section(
        "memory of the wide MLP (88 MB of weights)", ["runtime", "MB", "unit", "of a 2nd instance"]
    )
    for runtime in runtimes:
        one, two = (
            [
                float(harness.child("runtimes.variants", "memory", runtime, str(instances)))
                for _ in range(REPEATS)
            ]
            for instances in (1, INSTANCES)
        )
        table.measured(runtime, two, "MB", spread(differences(two, one)))
        more = statistics.median(two) - statistics.median(one)
        table.verdict(f"{runtime}: MB of a second instance", more, at_most=INSTANCE_MB)
    return table


LATENCY, MEMORY = "latency", "memory"


def main() -> None:
    """Measures section by section, prints, and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_runtimes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short and noisy: to see that all of it runs")
    sections = [*CASES, LATENCY, MEMORY]
    parser.add_argument("--only", nargs="+", choices=sections, default=sections, metavar="SECTION")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    options = parser.parse_args()
    effort = Effort.of(options.quick)
    runtimes = installed()
    for fact, value in {**harness.facts(), "runtimes": ", ".join(runtimes)}.items():
        print(f"{fact}: {value}")
    for missing in set(OTHERS) - set(runtimes):
        print(f"{missing} is not measured: it and paddle2onnx are not both installed")
    done = {}
    for name in options.only:
        if name == LATENCY:
            if "onnxruntime" not in runtimes:
                continue
            done[name] = latency(effort)
        elif name == MEMORY:
            done[name] = memory(runtimes)
        else:
            done[name] = throughput(name, runtimes, effort)
        harness.show(done[name])
    if options.json:
        harness.write_json(options.json, done, asdict(effort))


if __name__ == "__main__":
    main()
