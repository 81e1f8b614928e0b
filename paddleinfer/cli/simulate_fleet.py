"""The part of ``paddleinfer simulate`` that simulates replicas behind a router."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

from paddleinfer.cli.progress import progress
from paddleinfer.errors import ConfigError
from paddleinfer.options.parser import count, positive
from paddleinfer.simulation import report
from paddleinfer.simulation.arrivals import ArrivalProcess
from paddleinfer.simulation.autoscaling import METRICS, Autoscaling
from paddleinfer.simulation.fleet import ROUTERS, FleetResult, simulate_fleet
from paddleinfer.simulation.latency_table import LatencyTable

__all__ = ["add_fleet_options", "check_fleet_options", "fleet_table", "simulate_routers"]

_COLUMNS = (
    "router goodput late refused dropped mean\nms p99\nms rows\na_run busy replicas replica-s/\n1000_good"
)
# What one replica is to have, of its capacity or of 1.
_TARGET = 0.7
_NEED_REPLICAS = ("router", "stale_ms", "network_ms", "slow_share", "autoscale")
_NEED_AUTOSCALE = ("target", "min_replicas", "max_replicas", "interval_s", "start_s", "hold_s")


def add_fleet_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options about replicas."""
    fleet = parser.add_argument_group("several replicas behind a router")
    fleet.add_argument("--replicas", metavar="N", type=count, help="how many there are, at the start")
    fleet.add_argument(
        "--router", choices=ROUTERS, metavar="NAME", help=f"{', '.join(ROUTERS)}; default: compare them"
    )
    fleet.add_argument(
        "--stale-ms", metavar="MS", type=positive, help="how old the router's figures are; default: 0"
    )
    fleet.add_argument(
        "--network-ms", metavar="MS", type=positive, help="from router to replica, each way; default: 0"
    )
    fleet.add_argument(
        "--slow-share", metavar="X", type=positive, help="share of replicas half as fast; default: 0"
    )
    fleet.add_argument(
        "--autoscale", choices=METRICS, metavar="METRIC", help=f"to scale by: {', '.join(METRICS)}"
    )
    fleet.add_argument(
        "--target",
        metavar="X",
        type=positive,
        help="what a replica is to have of it; default: 0.7, 0.7 of the capacity, and 1",
    )
    fleet.add_argument("--min-replicas", metavar="N", type=count, help="at least; default: 1")
    fleet.add_argument("--max-replicas", metavar="N", type=count, help="at most; default: 10000")
    fleet.add_argument("--interval-s", metavar="S", type=positive, help="between decisions; default: 15")
    fleet.add_argument("--start-s", metavar="S", type=positive, help="until one serves; default: 30")
    fleet.add_argument(
        "--hold-s",
        metavar="S",
        type=positive,
        help="how long what was wanted stays; default: 300",
    )


def check_fleet_options(options: argparse.Namespace) -> None:
    """Refuses options without the one that they are for."""
    if options.replicas is None:
        _refuse(options, _NEED_REPLICAS + _NEED_AUTOSCALE, "--replicas")
    if options.autoscale is None:
        _refuse(options, _NEED_AUTOSCALE, "--autoscale")


def _refuse(options: argparse.Namespace, names: Sequence[str], needed: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} is for {needed}, which is not given")


def simulate_routers(
    options: argparse.Namespace, arrivals: ArrivalProcess, table: LatencyTable, replica_rows_per_s: float
) -> list[FleetResult]:
    """Simulates the load with each router, or the one that is named."""
    routers = ROUTERS if options.router is None else (options.router,)
    scaling = _scaling(options, replica_rows_per_s)
    results = []
    with progress("simulating", len(routers)) as advance:
        for router in routers:
            results.append(
                simulate_fleet(
                    arrivals,
                    table,
                    replicas=options.replicas,
                    router=router,
                    autoscaling=scaling,
                    stale_ms=options.stale_ms or 0.0,
                    network_ms=options.network_ms or 0.0,
                    slow_share=options.slow_share or 0.0,
                    warmup=True,
                    instances=options.instances,
                    requests=options.requests,
                    seed=options.seed,
                    max_batch_size=options.max_batch_size,
                    drain=False,
                )
            )
            advance(len(results))
    return results


def _scaling(options: argparse.Namespace, replica_rows_per_s: float) -> Autoscaling | None:
    if options.autoscale is None:
        return None
    targets = {
        "utilisation": _TARGET,
        "rows_per_s": _TARGET * replica_rows_per_s,
        "replicas_needed": 1.0,
    }
    given = {
        "least": options.min_replicas,
        "most": options.max_replicas,
        "interval_s": options.interval_s,
        "start_s": options.start_s,
        "hold_s": options.hold_s,
    }
    return Autoscaling(
        options.autoscale,
        options.target or targets[options.autoscale],
        **{name: value for name, value in given.items() if value is not None},
    )


def fleet_table(results: Sequence[FleetResult]) -> Any:
    """Makes a table for rich to print."""
    table = report.empty_table(
        _COLUMNS,
        "router",
        "goodput: in time, of what was offered, as are late to dropped; replicas: on average",
    )
    for result in results:
        of = result.requests
        shares = (of.late, of.refused, of.shed + of.expired)
        cost = result.replica_s_per_1000_good
        table.add_row(
            result.router.replace("_", " "),
            f"{of.in_time / of.offered:.2%}",
            *(f"{number / of.offered:.2%}" if number else "" for number in shares),
            *("" if math.isnan(time_ms) else f"{time_ms:.1f}" for time_ms in (of.mean_ms, of.p99_ms)),
            f"{of.mean_batch_rows:.1f}",
            f"{of.utilisation:.0%}",
            f"{result.mean_replicas:.1f}",
            "" if math.isinf(cost) else f"{cost:.3g}",
        )
    return table
