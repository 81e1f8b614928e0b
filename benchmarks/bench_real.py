"""Measures PaddleOCR's models: rows per second of an engine, and of two bare predictors at their best.

``python -m benchmarks.bench_real [--quick] [--only CASE ...] [--json FILE]``
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import Effort, Helper, Section, interleave, ratios, spread
from benchmarks.models import directory
from benchmarks.real.variants import CALLERS, CASES, Case, Settings, engine_helper, helper, tried

BARE = "two bare predictors"
DEFAULTS = "engine"
WITH_PASSES = "engine, ir_optim=True"
# How much longer windows are, because a page takes a third of a second.
SLOWNESS = 4.0


def best_settings(name: str, case: Case, seconds: float) -> Settings:
    """Finds the settings with which a row takes a bare predictor the least work on the processor."""
    first = [one for one in tried(case) if one.batch == case.batches[0]]
    best = min(first, key=lambda one: _alone(name, one, seconds))
    several = [replace(best, batch=batch) for batch in case.batches]
    return min(several, key=lambda one: _alone(name, one, seconds))


def _alone(name: str, settings: Settings, seconds: float) -> float:
    with contextlib.closing(helper(name, settings)) as one:
        one.answer()
        return _together([one], seconds).cpu_ms


@dataclass(frozen=True)
class Load:
    """The results of one variant in one round."""

    rate: float
    """Rows per second."""
    cpu_ms: float
    """Milliseconds of the processor per row."""
    rows: float
    """The mean rows of a run."""


def _together(helpers: Sequence[Helper], seconds: float) -> Load:
    """Runs all of them at the same time."""
    for one in helpers:
        one.tell(seconds)
    loads = [Load(**one.answer()) for one in helpers]
    return Load(
        sum(load.rate for load in loads),
        statistics.fmean(load.cpu_ms for load in loads),
        statistics.fmean(load.rows for load in loads),
    )


def section(name: str, effort: Effort) -> Section:
    """Measures one case: every variant has processes of its own, and one variant runs at a time."""
    case = CASES[name]
    seconds = effort.seconds * SLOWNESS
    best = best_settings(name, case, effort.seconds)
    options: dict[str, dict[str, Any]] = {DEFAULTS: {}}
    if case.format == "legacy":
        options[WITH_PASSES] = {"ir_optim": True}
    table = Section(
        f"{name}: rows per second, {CALLERS} callers of the engine; bare: {best}",
        ["variant", "rows/s", "of the bare", "CPU ms a row", "rows a run", "most apart"],
    )
    with contextlib.ExitStack() as closing:
        bares = [closing.enter_context(contextlib.closing(helper(name, best))) for _ in range(2)]
        for one in bares:
            one.answer()
        alone = replace(best, batch=1)
        engines = {
            variant: closing.enter_context(contextlib.closing(engine_helper(name, each, alone)))
            for variant, each in options.items()
        }
        apart = {variant: one.answer() for variant, one in engines.items()}
        variants = {BARE: bares, **{variant: [one] for variant, one in engines.items()}}
        loads = interleave(
            {variant: functools.partial(_together, each, seconds) for variant, each in variants.items()},
            effort.rounds,
        )
    bare_rates = [load.rate for load in loads[BARE]]
    for variant, measured in loads.items():
        rates, work = [load.rate for load in measured], [load.cpu_ms for load in measured]
        shares = ratios(rates, bare_rates)
        table.raw |= {
            f"{variant}, rows/s": rates,
            f"{variant}, of the bare": shares,
            f"{variant}, CPU ms a row": work,
        }
        rows = f"{statistics.fmean(load.rows for load in measured):.1f}"
        error = f"{apart[variant]:.1g}" if variant in apart else ""
        table.rows.append([variant, spread(rates), spread(shares), spread(work), rows, error])
        if variant == DEFAULTS and case.wanted is not None:
            table.verdict(f"{name}: of two bare predictors", statistics.median(shares), at_least=case.wanted)
    return table


def main() -> None:
    """Measures case by case, prints, and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_real", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a short and noisy run, to see that everything works"
    )
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    options = parser.parse_args()
    effort = Effort.of(options.quick)
    for name in options.only:
        directory(CASES[name].model, CASES[name].format)
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    sections = {}
    for name in options.only:
        sections[name] = section(name, effort)
        harness.show(sections[name])
    if options.json:
        harness.write_json(options.json, sections, asdict(effort))


if __name__ == "__main__":
    main()
