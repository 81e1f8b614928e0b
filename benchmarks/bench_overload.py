"""Measures twice the load that can be served, with 50 ms per request; and a bad request among good ones.

``python -m benchmarks.bench_overload [--quick] [--json FILE] [--only NAME ...]``
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Effort, Section, ratios, spread
from benchmarks.load.open_loop import DEADLINE_S
from benchmarks.models import directory
from benchmarks.overload.rounds import ADAPTIVE, ADAPTIVE_UVLOOP, FACTOR, Lengths, Measured, measure
from benchmarks.overload.variants import Overload

OVERLOADED = ("wide_mlp", "transformer")
NAMES = [*OVERLOADED, "poisoned"]
COLUMNS = [
    *("variant", "in time/s", "of capacity", "of what ran", "in hand", "refused", "shed", "expired"),
    *("late", "rows", "us CPU a refusal", "p99 ms a refusal", "p50 ms", "p99 ms"),
]


def overload(model: str, effort: Effort, quick: bool) -> Section:
    """All variants on one model."""
    lengths = Lengths.of(effort, quick)
    directory(model)
    measured = measure(model, lengths, quick, lambda line: print(f"  {model}, {line}", file=sys.stderr))
    table = Section(
        f"{model}: {FACTOR:g} times what can be done in {1e3 * DEADLINE_S:g} ms, "
        f"{lengths.overload:g} s in each of {lengths.rounds} rounds",
        COLUMNS,
    )
    _capacity_rows(table, measured)
    for variant, loads in measured.loads.items():
        _row(table, variant, loads, measured.capacity)
    for variant in (ADAPTIVE, ADAPTIVE_UVLOOP):
        _verdicts(table, variant, measured.loads[variant], measured.capacity)
    every = [load for loads in measured.loads.values() for load in loads]
    every += [load for _, _, load in measured.offered]
    compared, different = sum(load.compared for load in every), sum(load.different for load in every)
    table.verdict(f"answers that differ, of {compared:,} compared", different, at_most=0)
    table.verdict("requests that failed", sum(load.failed for load in every), at_most=0)
    others = [load.others for load in every]
    table.raw["share of the cores that other processes had, of every load"] = others
    table.verdict("share of the cores that other processes had", statistics.median(others), at_most=0.03)
    return table


def _capacity_rows(table: Section, measured: Measured) -> None:
    blank = [""] * (len(table.columns) - 2)
    for full in measured.full:
        name = f"full batches of {full.rows}"
        table.raw[f"{name}, rows/s, mean ms, p95 ms"] = [full.rows_per_s, 1e3 * full.mean_s, 1e3 * full.p95_s]
    best = max(measured.full, key=lambda full: full.in_time * full.rows_per_s)
    table.rows.append([f"full batches of {best.rows}, no deadlines", f"{best.rows_per_s:,.0f}", *blank])
    table.raw |= {"capacity, requests/s": measured.capacity, "found while looking": measured.found}
    table.rows.append(["capacity", spread(measured.capacity), *blank])
    offered = [FACTOR * found for found in measured.found]
    times = statistics.median(ratios(offered, measured.capacity))
    table.raw["offered, requests/s"] = offered
    table.rows.append(["offered", spread(offered), f"{times:.2f}", *blank[1:]])
    for variant, rate, load in measured.offered:
        table.raw.setdefault(f"while looking, {variant}: rate, in time/s", []).extend(
            [rate, load.in_time_per_s]
        )


def _row(table: Section, variant: str, loads: list[Overload], capacity: list[float]) -> None:
    for name in Overload.__dataclass_fields__:
        values = [getattr(load, name) for load in loads]
        if name != "reasons":
            table.raw[f"{variant}, {name}"] = values
    for reason in sorted({reason for load in loads for reason in load.reasons}):
        table.raw[f"{variant}, went because {reason}, of those asked"] = [
            float(load.reasons.get(reason, 0)) for load in loads
        ]

    def median(name: str, digits: int = 1) -> str:
        value = statistics.median(getattr(load, name) for load in loads)
        return f"{value:,.{digits}f}" if value else ""

    def part(name: str) -> str:
        value = statistics.median(getattr(load, name) / load.offered for load in loads)
        return f"{value:.1%}" if value else ""

    rates = [load.in_time_per_s for load in loads]
    ends = [part(name) for name in ("refused", "shed", "expired", "late")]
    times = [median("refusal_cpu_us"), median("refusal_p99_ms", 2), median("p50_ms"), median("p99_ms")]
    done = f"{statistics.median(ratios(rates, capacity)):.2f}"
    ran = [median("ran_in_time", 3), median("ran_in_hand", 3)]
    table.rows.append([variant, spread(rates), done, *ran, *ends, median("rows"), *times])


def _verdicts(table: Section, variant: str, loads: list[Overload], capacity: list[float]) -> None:
    def median(name: str) -> float:
        return float(statistics.median(getattr(load, name) for load in loads))

    done = statistics.median(ratios([load.in_time_per_s for load in loads], capacity))
    table.verdict(f"{variant}: done in time, of capacity", done, at_least=0.85)
    table.verdict(f"{variant}: of what ran, a result in time", median("ran_in_time"), at_least=0.99)
    table.verdict(
        f"{variant}: of what ran, in the caller's hands in time", median("ran_in_hand"), at_least=0.99
    )
    if any(load.refusal_cpu_us for load in loads):
        table.verdict(f"{variant}: us of CPU for a refusal", median("refusal_cpu_us"), at_most=50)
    table.verdict(f"{variant}: p99 ms of a refusal", median("refusal_p99_ms"), at_most=5)


def main() -> None:
    """Measures each section, prints it, and writes them all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_overload", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a short and noisy run, to see that everything works"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES)
    )
    options = parser.parse_args()
    effort = Effort.of(options.quick)
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    makers: dict[str, Callable[[], Section]] = {
        model: functools.partial(overload, model, effort, options.quick) for model in OVERLOADED
    }
    makers["poisoned"] = lambda: harness.section_of(harness.child("callers.poisoned"))
    sections = {}
    for name in options.only:
        sections[name] = makers[name]()
        harness.show(sections[name])
    if options.json:
        lengths = Lengths.of(effort, options.quick)
        harness.write_json(options.json, sections, vars(lengths))


if __name__ == "__main__":
    main()
