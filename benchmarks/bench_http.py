"""Measures servers on this machine with one row per request: ours over HTTP and gRPC, a bare one, others.

``python -m benchmarks.bench_http [--quick] [--ours] [--json FILE] [--only NAME ...]``; needs Debian's wrk.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Effort, Section, ratios, spread
from benchmarks.http.load import Load
from benchmarks.http.rounds import CONNECTIONS, Lengths, Measured, measure
from benchmarks.http.variants import (
    BASELINES,
    BENTOML,
    CEILING_GRPC,
    CEILING_OF,
    LITSERVE,
    MOSEC,
    MOSEC_2,
    OURS_BINARY,
    OURS_GRPC,
    OURS_JSON,
)
from benchmarks.models import MODELS

SERVED = ("mlp", "wide_mlp")
NAMES = [*SERVED, "stages"]
COLUMNS = [
    *("variant", "connections", "requests/s", "ours/this", "p50 ms", "p99 ms"),
    *("us CPU a request", "of it first thread", "client's cores"),
]
_REPORTED = ("instances", "onednn", "ir_optim", "mem_optim", "max_batch_size", "policy")


def served(model: str, effort: Effort, baselines: Collection[str]) -> Section:
    """All variants on one model."""
    lengths = Lengths.of(effort)
    measured = measure(model, lengths, lambda line: print(f"  {model}, {line}", file=sys.stderr), baselines)
    options = ", ".join(f"{name} {measured.in_force[name]}" for name in _REPORTED)
    width = MODELS[model].fed[0]
    table = Section(
        f"{model}: one row of {width} numbers a request, {lengths.seconds} s in each of {lengths.rounds} "
        f"rounds; the client, wrk or for gRPC our own grpc_load, has the same cores; ours: {options}",
        COLUMNS,
    )
    for variant, by_connections in measured.loads.items():
        for connections, loads in by_connections.items():
            _row(table, variant, connections, loads, measured.loads[OURS_JSON][connections])
    for variant, why in measured.left_out.items():
        table.rows.append([variant, "", f"left out: {why}", *[""] * (len(COLUMNS) - 3)])
    if model == "mlp":
        _verdicts(table, measured)
    every = [load for variants in measured.loads.values() for loads in variants.values() for load in loads]
    own = [
        load
        for variant in (*CEILING_OF, *CEILING_OF.values(), OURS_GRPC, CEILING_GRPC)
        for loads in measured.loads[variant].values()
        for load in loads
    ]
    table.verdict("answers of ours that were refused or broken off", sum(load.bad for load in own), at_most=0)
    others = statistics.median(load.others for load in every)
    table.verdict("share of the cores that other processes had", others, at_most=0.03)
    return table


def _row(table: Section, variant: str, connections: int, loads: list[Load], ours: list[Load]) -> None:
    for name in Load.__dataclass_fields__:
        table.raw[f"{variant}, {connections} connections, {name}"] = [getattr(load, name) for load in loads]
    bad = sum(load.bad for load in loads)
    if bad:
        blank = [""] * (len(COLUMNS) - 3)
        table.rows.append(
            [variant, str(connections), f"invalid: {bad:,.0f} refused, broken off, or none at all", *blank]
        )
        return

    def median(name: str, digits: int = 0) -> str:
        return f"{statistics.median(getattr(load, name) for load in loads):,.{digits}f}"

    times = statistics.median(ratios(_rates(ours), _rates(loads)))
    table.rows.append(
        [
            *(variant, str(connections), spread(_rates(loads)), f"{times:.2f}"),
            *(median("p50_ms", 2), median("p99_ms", 2)),
            *(median("cpu_us"), median("main_thread_us"), median("client", 2)),
        ]
    )


def _rates(loads: list[Load]) -> list[float]:
    return [load.requests_per_s for load in loads]


def _verdicts(table: Section, measured: Measured) -> None:
    def rates(variant: str, connections: int) -> list[float] | None:
        loads = measured.loads.get(variant, {}).get(connections, [])
        return None if not loads or any(load.bad for load in loads) else _rates(loads)

    def compare(what: str, above: list[float] | None, below: list[float] | None, wanted: float) -> None:
        if above is not None and below is not None:
            table.verdict(what, statistics.median(ratios(above, below)), at_least=wanted)

    for connections in CONNECTIONS[1:]:
        at = f"at {connections} connections"
        ours = rates(OURS_JSON, connections)
        compare(f"JSON {at}, of the bare application", ours, rates(CEILING_OF[OURS_JSON], connections), 0.8)
        for variant in (LITSERVE, BENTOML):
            compare(f"JSON {at}, times {variant}", ours, rates(variant, connections), 5.0)
        for variant in (MOSEC, MOSEC_2):
            wanted = 1.3 if connections == 32 else 1.0
            compare(f"JSON {at}, times {variant}", ours, rates(variant, connections), wanted)
        compare(f"binary {at}, times JSON", rates(OURS_BINARY, connections), ours, 1.5)


def main() -> None:
    """Measures each section, prints it, and writes them all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_http", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a short and noisy run, to see that everything works"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument(
        "--ours", action="store_true", help="leave out other servers, which have to be installed"
    )
    options = parser.parse_args()
    baselines = () if options.ours else tuple(BASELINES)
    effort = Effort.of(options.quick)
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    stages = ["--quick"] if options.quick else []
    makers: dict[str, Callable[[], Section]] = {
        "mlp": lambda: served("mlp", effort, baselines),
        "wide_mlp": lambda: served("wide_mlp", effort, baselines),
        "stages": lambda: harness.section_of(harness.child("http.stages", *stages)),
    }
    sections = {}
    for name in options.only:
        sections[name] = makers[name]()
        harness.show(sections[name])
    if options.json:
        harness.write_json(options.json, sections, asdict(Lengths.of(effort)))


if __name__ == "__main__":
    main()
