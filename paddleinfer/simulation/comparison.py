"""``python -m paddleinfer.simulation`` compares the policies over a range of loads."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from paddleinfer.options.parser import OneSentenceParser, count, positive
from paddleinfer.simulation import report
from paddleinfer.simulation.arrivals import ArrivalProcess, Bursty, ClosedLoop, Poisson, RequestKind
from paddleinfer.simulation.latency_table import LatencyTable, attainable_goodput, capacity
from paddleinfer.simulation.report import Point
from paddleinfer.simulation.simulation import POLICIES, simulate
from paddleinfer.whole_files import write_whole

__all__ = ["main"]

_LOADS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0)
_ARRIVALS = {"poisson": "Poisson arrivals", "bursty": "Bursty arrivals", "closed": "Callers who wait"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares the policies; the exit code is 2 if a value is wrong or a file cannot be written."""
    parser = OneSentenceParser(
        prog="python -m paddleinfer.simulation",
        description="Simulate what the scheduler makes of a load, on a virtual clock.",
    )
    parser.add_argument(
        "--load", type=positive, nargs="+", default=_LOADS, help="offered loads, in units of the capacity"
    )
    parser.add_argument(
        "--deadline-ms", type=positive, default=50.0, help="deadline of every request; default: 50"
    )
    parser.add_argument("--instances", type=count, default=1, help="runs at once; default: 1")
    parser.add_argument(
        "--a-us", type=positive, default=9000.0, help="a run of n rows takes a + b * n; default: 9000"
    )
    parser.add_argument("--b-us", type=positive, default=300.0, help="microseconds a row; default: 300")
    parser.add_argument("--arrivals", choices=tuple(_ARRIVALS), default="poisson")
    parser.add_argument(
        "--requests", type=count, default=20_000, help="requests at each load; default: 20000"
    )
    parser.add_argument("--seed", type=count, default=1, help="seed of all random numbers; default: 1")
    parser.add_argument("--out", type=Path, default=Path("simulation.png"), help="the picture")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args(arguments)
    missing = [name for name in ("matplotlib", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f'{" and ".join(missing)} must be installed: pip install "paddleinfer[demo]"')
    table = LatencyTable.linear(options.a_us, options.b_us)
    rows_per_s = capacity(table, options.instances, options.deadline_ms)
    if rows_per_s == 0:
        parser.error(
            f"nothing can be in time: two runs of one row may take {2 * table.p95_us(1) / 1e3:.1f} ms, "
            f"and the deadline is {options.deadline_ms:g} ms"
        )
    instances = "1 instance" if options.instances == 1 else f"{options.instances} instances"
    title = (
        f"{_ARRIVALS[options.arrivals]}, {instances}, deadline {options.deadline_ms:g} ms, "
        f"runs of {options.a_us / 1e3:g} ms + {options.b_us / 1e3:g} ms a row"
    )
    points = _compare(options, rows_per_s, table)
    console = importlib.import_module("rich.console").Console()
    for line in (title, f"capacity: {rows_per_s:,.0f} rows a second"):
        console.print(line, soft_wrap=True, highlight=False)
    console.print(report.table(points, rows_per_s))
    try:
        report.draw(options.out, title, points, rows_per_s, options.deadline_ms)
        if options.json is not None:
            write_whole(options.json, report.as_json(vars(options), points, rows_per_s).encode())
    except OSError as error:
        parser.error(f"cannot write {error.filename}: {error.strerror}")
    files = [str(path) for path in (options.out, options.json) if path is not None]
    console.print(f"files: {'  '.join(files)}", soft_wrap=True, highlight=False)
    return 0


def _compare(options: argparse.Namespace, rows_per_s: float, table: LatencyTable) -> list[Point]:
    kinds = (RequestKind(deadline_ms=options.deadline_ms),)
    drawn = {"requests": options.requests, "seed": options.seed}
    points = []
    for load in options.load:
        rate = load * rows_per_s
        best = None
        arrivals: ArrivalProcess
        if options.arrivals == "closed":
            # This many callers ask at this rate if an answer takes half the deadline.
            callers = max(1, round(rate * 1.5 * options.deadline_ms / 1e3))
            arrivals = ClosedLoop(callers, think_ms=options.deadline_ms, kinds=kinds)
        else:
            arrivals = (Poisson if options.arrivals == "poisson" else Bursty)(rate, kinds=kinds)
            best = attainable_goodput(arrivals, rows_per_s, **drawn)
        results = [
            simulate(arrivals, table, policy, instances=options.instances, drain=False, **drawn)
            for policy in POLICIES
        ]
        points.append(Point(load, best, results))
    return points
