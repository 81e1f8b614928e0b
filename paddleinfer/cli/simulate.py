"""``paddleinfer simulate`` simulates the scheduler under a hypothetical load, on a virtual clock."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from typing import Any

from paddleinfer.cli.arrays import add_shapes, random_inputs
from paddleinfer.cli.engine import model_path, open_engine
from paddleinfer.cli.output import print_document
from paddleinfer.cli.progress import progress
from paddleinfer.cli.simulate_fleet import (
    add_fleet_options,
    check_fleet_options,
    fleet_table,
    simulate_routers,
)
from paddleinfer.config import EngineConfig
from paddleinfer.engine.warmup import WarmupReport
from paddleinfer.errors import ConfigError
from paddleinfer.models.reader import load_spec
from paddleinfer.options.parser import count, positive
from paddleinfer.simulation import report
from paddleinfer.simulation.arrivals import ArrivalProcess, Bursty, ClosedLoop, Poisson, RequestKind, Wave
from paddleinfer.simulation.latency_table import LatencyTable, capacity
from paddleinfer.simulation.report import Point
from paddleinfer.simulation.simulation import POLICIES, SimulationResult, simulate

__all__ = ["SUMMARY", "add_options", "run"]

SUMMARY = "simulate the scheduler under a hypothetical load, on a virtual clock"


# The width of the table, in columns of a terminal.
_WIDEST = 1000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-command's options."""
    parser.add_argument(
        "model", metavar="DIR", type=model_path, nargs="?", help="a model, whose run times are measured first"
    )
    times = parser.add_argument_group("run times, if no model is given")
    times.add_argument(
        "--run-ms",
        metavar="ROWS=MS",
        action="append",
        default=[],
        help="a run of ROWS rows takes MS milliseconds; may be given several times",
    )
    parser.add_argument("--rate", metavar="R", type=positive, help="requests per second, one row each")
    parser.add_argument("--callers", metavar="N", type=count, help="callers who wait for their answers")
    parser.add_argument("--think-ms", metavar="MS", type=positive, help="a caller's mean pause; default: 1")
    parser.add_argument("--bursty", action="store_true", help="let the requests come in bursts")
    parser.add_argument(
        "--wave-s", metavar="S", type=positive, help="let the rate rise and fall within S seconds"
    )
    parser.add_argument(
        "--deadline-ms", metavar="MS", type=positive, help="deadline of each request; default: none"
    )
    parser.add_argument("--instances", metavar="N", type=count, default=1, help="runs at once; default: 1")
    parser.add_argument(
        "--max-batch-size", metavar="N", type=count, default=32, help="rows in a run at most; default: 32"
    )
    parser.add_argument(
        "--requests", metavar="N", type=count, default=20_000, help="how many are simulated; default: 20000"
    )
    parser.add_argument(
        "--seed", metavar="N", type=count, default=1, help="seed of all random numbers; default: 1"
    )
    add_fleet_options(parser)
    add_shapes(parser)


def run(options: argparse.Namespace) -> int:
    """Prints what each policy, or each router, makes of the load, and returns the exit code."""
    check_fleet_options(options)
    arrivals = _arrivals(options)
    if not options.json and importlib.util.find_spec("rich") is None:
        raise ConfigError('rich must be installed: pip install "paddleinfer[demo]"; or ask for --json')
    table = _table(options)
    most_per_s = capacity(table, options.instances, options.deadline_ms, options.max_batch_size)
    if most_per_s == 0:
        raise ConfigError(
            f"nothing can be in time: two runs of one row may take {2 * table.p95_us(1) / 1e3:.1f} ms, "
            f"and the deadline is {options.deadline_ms:g} ms; allow more with --deadline-ms"
        )
    fleets = simulate_routers(options, arrivals, table, most_per_s) if options.replicas else []
    results = [] if options.replicas else _policies(options, arrivals, table)
    if options.json:
        print_document(
            {
                "options": _plain_options(options),
                "run_us": {rows: mean_us for rows, mean_us, _ in table.sizes},
                "capacity_rows_per_s": most_per_s,
                "results": [result.as_dict() for result in fleets or results],
            }
        )
        return 0
    console = importlib.import_module("rich.console").Console()
    times = ", ".join(f"{rows} in {mean_us / 1e3:.3g} ms" for rows, mean_us, _ in table.sizes)
    of_one = " for each replica" if fleets else ""
    for line in (f"rows of a run: {times}", f"capacity: {most_per_s:,.0f} rows a second{of_one}"):
        console.print(line, soft_wrap=True, highlight=False)
    if fleets:
        compared = fleet_table(fleets)
    else:
        load = results[0].offered / max(results[0].seconds, 1e-9) / most_per_s
        compared = report.table([Point(round(load, 2), None, results)], most_per_s)
    # Wrapped lines are better than cut columns.
    whole = console.measure(compared, options=console.options.update(max_width=_WIDEST)).maximum
    console.width = max(console.width, whole)
    console.print(compared)
    return 0


def _policies(
    options: argparse.Namespace, arrivals: ArrivalProcess, table: LatencyTable
) -> list[SimulationResult]:
    results = []
    with progress("simulating", len(POLICIES)) as advance:
        for policy in POLICIES:
            results.append(
                simulate(
                    arrivals,
                    table,
                    policy,
                    instances=options.instances,
                    requests=options.requests,
                    seed=options.seed,
                    max_batch_size=options.max_batch_size,
                    drain=False,
                )
            )
            advance(len(results))
    return results


def _arrivals(options: argparse.Namespace) -> ArrivalProcess:
    kinds = (RequestKind(deadline_ms=options.deadline_ms),)
    if (options.rate is None) == (options.callers is None):
        raise ConfigError("give either --rate, requests a second, or --callers, who wait for their answers")
    if options.callers is None:
        if options.think_ms is not None:
            raise ConfigError("--think-ms is for --callers, and --rate is given")
        if options.wave_s is not None:
            if options.bursty:
                raise ConfigError("give either --bursty or --wave-s, not both")
            return Wave(options.rate, period_s=options.wave_s, kinds=kinds)
        return (Bursty if options.bursty else Poisson)(options.rate, kinds=kinds)
    for name, given in (("--bursty", options.bursty), ("--wave-s", options.wave_s is not None)):
        if given:
            raise ConfigError(f"{name} is for --rate, and --callers is given")
    return ClosedLoop(options.callers, think_ms=options.think_ms or 1.0, kinds=kinds)


def _table(options: argparse.Namespace) -> LatencyTable:
    if options.model is None:
        if not options.run_ms:
            raise ConfigError(
                "give a model's directory, or run times such as --run-ms 1=9.3 --run-ms 32=18.6"
            )
        times_us = dict(map(_run_time_us, options.run_ms))
        return LatencyTable.measured(WarmupReport(times_us, largest_difference={}, batchable=True))
    if options.run_ms:
        raise ConfigError("give a model's directory or --run-ms, not both")
    row = random_inputs(load_spec(options.model).inputs, options.shape, rows=1)
    config = EngineConfig.from_options({"instances": 1, "max_batch_size": options.max_batch_size})
    with open_engine(options.model, config) as engine:
        return LatencyTable.measured(engine.warmup(row))


def _run_time_us(text: str) -> tuple[int, float]:
    rows, _, time_ms = text.partition("=")
    try:
        return count(rows), positive(time_ms) * 1e3
    except argparse.ArgumentTypeError:
        raise ConfigError(f"--run-ms must be like 8=12.5, rows and milliseconds, not {text}") from None


def _plain_options(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name not in ("run", "json", "command")}
