"""Measures services over HTTP, one row a request: ours, and the same functions in other servers.

``python -m benchmarks.bench_services_http [--quick] [--rounds N] [--seconds N] [--json FILE]
[--only VARIANT ...]``; needs Debian's wrk.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks import harness
from benchmarks.baselines import Process
from benchmarks.harness import Effort, Section, ratios, spread
from benchmarks.http.envs import Unavailable
from benchmarks.http.load import Array, Load
from benchmarks.http.rounds import CONNECTIONS, Lengths
from benchmarks.http.server import Server
from benchmarks.http.service_variants import PEERS, PLAIN, VARIANTS
from benchmarks.models import MODELS

MODEL = "mlp"
# The connections of the verdicts.
MANY = 32
COLUMNS = [
    *("server", "connections", "requests/s", "plain functions/this", "p50 ms", "p99 ms"),
    *("us CPU a request", "of it first thread", "client's cores"),
]
Loads = dict[str, dict[int, list[Load]]]


def measure(lengths: Lengths, names: Collection[str]) -> tuple[Loads, dict[str, str]]:
    """Measures all rounds: variant -> connections -> the load of each round; and who was left out, and why.

    Each server runs alone; every round has each of them once, and begins with another one.
    """
    row: Array = MODELS[MODEL].feed(1)["x"]
    with contextlib.closing(Process(MODEL, 1)) as plain:
        (expected,) = plain.outputs
    loads: Loads = {name: {count: [] for count in CONNECTIONS} for name in names}
    left_out: dict[str, str] = {}
    order = list(names)
    for turn in range(lengths.rounds):
        first = turn % len(order)
        for name in order[first:] + order[:first]:
            if name in left_out:
                continue
            print(f"  round {turn + 1} of {lengths.rounds}: {name}", file=sys.stderr)
            try:
                measured = _one(name, lengths, row, expected)
            except Unavailable as error:
                left_out[name] = str(error)
                del loads[name]
                print(f"  {name} is left out: {error}", file=sys.stderr)
                continue
            for count, load in measured.items():
                loads[name][count].append(load)
    return loads, left_out


def _one(name: str, lengths: Lengths, row: Array, expected: Array) -> dict[int, Load]:
    """One server, at every number of connections."""
    variant = VARIANTS[name]
    ask = variant.ask(row)
    with contextlib.closing(Server(MODEL, variant.start, ask)) as server:
        server.check(ask, expected)
        server.load(ask, MANY, lengths.warm_up)
        measured = {count: server.load(ask, count, lengths.seconds) for count in CONNECTIONS}
        server.check(ask, expected)
    return measured


def report(loads: Loads, left_out: dict[str, str], lengths: Lengths) -> Section:
    """Makes the table and its verdicts."""
    table = Section(
        f"{MODEL} with functions around it: one row of {MODELS[MODEL].fed[0]} numbers a request, "
        f"{lengths.seconds} s in each of {lengths.rounds} rounds; the client, wrk, has the same cores",
        COLUMNS,
    )
    for name, by_connections in loads.items():
        for count, measured in by_connections.items():
            _row(table, name, count, measured, loads.get(PLAIN, {}).get(count))
    for name, why in left_out.items():
        table.rows.append([name, "", f"left out: {why}", *[""] * (len(COLUMNS) - 3)])
    if PLAIN in loads:
        for name in PEERS:
            if name in loads and not any(load.bad for load in loads[name][MANY]):
                times = statistics.median(ratios(_rates(loads[PLAIN][MANY]), _rates(loads[name][MANY])))
                table.verdict(f"plain functions at {MANY} connections, times {name}", times, at_least=1.0)
        bad = sum(load.bad for measured in loads[PLAIN].values() for load in measured)
        table.verdict("answers of ours that were refused or broken off", bad, at_most=0)
    every = [load for measured in loads.values() for one in measured.values() for load in one]
    others = statistics.median(load.others for load in every)
    table.verdict("share of the cores that other processes had", others, at_most=0.03)
    return table


def _row(table: Section, name: str, count: int, loads: list[Load], ours: list[Load] | None) -> None:
    for what in Load.__dataclass_fields__:
        table.raw[f"{name}, {count} connections, {what}"] = [getattr(load, what) for load in loads]
    bad = sum(load.bad for load in loads)
    if bad:
        said = f"invalid: {bad:,.0f} refused, broken off, or none at all"
        table.rows.append([name, str(count), said, *[""] * (len(COLUMNS) - 3)])
        return

    def median(what: str, digits: int = 0) -> str:
        return f"{statistics.median(getattr(load, what) for load in loads):,.{digits}f}"

    times = "" if ours is None else f"{statistics.median(ratios(_rates(ours), _rates(loads))):.2f}"
    table.rows.append(
        [
            *(name, str(count), spread(_rates(loads)), times, median("p50_ms", 2), median("p99_ms", 2)),
            *(median("cpu_us"), median("main_thread_us"), median("client", 2)),
        ]
    )


def _rates(loads: list[Load]) -> list[float]:
    return [load.requests_per_s for load in loads]


def main() -> None:
    """Measures, prints the table, and writes it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_services_http", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short and noisy: to see that all of it runs")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each server is measured")
    parser.add_argument("--seconds", type=int, metavar="N", help="how long each load lasts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=VARIANTS,
        default=list(VARIANTS),
        metavar="VARIANT",
        help="; ".join(VARIANTS),
    )
    options = parser.parse_args()
    lengths = Lengths.of(Effort.of(options.quick))
    given = {"rounds": options.rounds, "seconds": options.seconds}
    lengths = replace(lengths, **{name: number for name, number in given.items() if number is not None})
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    section = report(*measure(lengths, options.only), lengths)
    harness.show(section)
    if options.json:
        harness.write_json(options.json, {"services": section}, asdict(lengths))


if __name__ == "__main__":
    main()
