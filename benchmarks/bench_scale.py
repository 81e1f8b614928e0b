"""Simulates 10, 100 and 1,000 replicas: which router, which metric to scale by, at what cost.

The figures follow from a seed, and are the same on every machine but for the seconds that a simulation takes.

``python -m benchmarks.bench_scale [--only routers|metrics] [--replicas N ...] [--quick] [--json FILE]``
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Section
from paddleinfer.simulation import (
    ROUTERS,
    Autoscaling,
    FleetResult,
    LatencyTable,
    Poisson,
    RequestKind,
    Wave,
    capacity,
    simulate_fleet,
)

REPLICAS = (10, 100, 1_000)
REQUESTS_A_REPLICA = 10_000
DEADLINE_MS = 50.0
# A run of n rows takes 9 ms + 0.3 ms * n: 1,720 rows a second in batches of 32.
QUICK_MODEL = LatencyTable.linear(9_000, 300)
SCALED_DEADLINE_MS = 1_000.0
SCALED_BATCH = 16
SEED = 1


@dataclass(frozen=True)
class Situation:
    """What a router has to cope with."""

    name: str
    load: float
    """Offered rows, of what all replicas can have in time."""
    stale_ms: float = 0.0
    network_ms: float = 0.0
    slow_share: float = 0.0
    large_share: float = 0.0
    """Of the requests: those of 8 rows instead of 1."""


SITUATIONS = (
    Situation("equal replicas, figures of now", 0.9),
    Situation("equal replicas, figures 5 ms old", 0.9, stale_ms=5, network_ms=0.5),
    Situation(
        "a fifth is half as fast, a tenth of the requests has 8 rows, figures 5 ms old",
        0.8,
        stale_ms=5,
        network_ms=0.5,
        slow_share=0.2,
        large_share=0.1,
    ),
)


def routed(situation: Situation, router: str, replicas: int, requests: int) -> FleetResult:
    """One router in one situation."""
    kinds = [RequestKind(deadline_ms=DEADLINE_MS, weight=1 - situation.large_share)]
    if situation.large_share:
        kinds.append(RequestKind(rows=8, deadline_ms=DEADLINE_MS, weight=situation.large_share))
    rows = sum(kind.rows * kind.weight for kind in kinds)
    rows_per_s = capacity(QUICK_MODEL, 1, DEADLINE_MS) * replicas * (1 - situation.slow_share / 2)
    return simulate_fleet(
        Poisson(situation.load * rows_per_s / rows, tuple(kinds)),
        QUICK_MODEL,
        replicas=replicas,
        router=router,  # type: ignore[arg-type]
        stale_ms=situation.stale_ms,
        network_ms=situation.network_ms,
        slow_share=situation.slow_share,
        warmup=True,
        requests=requests,
        seed=SEED,
        drain=False,
    )


def of_routers(sizes: Sequence[int], a_replica: int) -> Iterator[Section]:
    """A table for each situation."""
    for situation in SITUATIONS:
        table = Section(
            f"Routers: {situation.name}, load {situation.load:g}",
            ["router", "replicas", "in time", "p99 ms", "replica-s/1000 good", "simulated in s"],
        )
        for router in ROUTERS:
            for replicas in sizes:
                began = time.perf_counter()
                result = routed(situation, router, replicas, replicas * a_replica)
                add(table, [router, f"{replicas:,}"], result, began)
        yield table


# -- autoscaling


@dataclass(frozen=True)
class Model:
    """One so slow that replicas start and go within a simulation of some minutes."""

    name: str
    a_us: float
    b_us: float
    slower: float = 1.0
    """How many times as long its runs have become since the targets were set."""
    period_s: float = 300.0
    """From one peak of the load to the next."""

    @property
    def is_variation(self) -> bool:
        """Whether it is another model under another load, for which the usual targets are enough."""
        return self.slower != 1 or self.period_s != 300

    def table(self, slower: float) -> LatencyTable:
        """How long its runs take."""
        return LatencyTable.linear(slower * self.a_us, slower * self.b_us)

    @property
    def rows_per_s(self) -> float:
        """Rows a second that a replica can have in time, as they were when the targets were set."""
        return capacity(self.table(1.0), 1, SCALED_DEADLINE_MS, SCALED_BATCH)


MODELS = (
    Model("runs of 100 ms + 20 ms a row", 100_000, 20_000),
    Model("runs of 250 ms + 5 ms a row", 250_000, 5_000),
    Model("runs of 100 ms + 20 ms a row, ten times as slowly", 100_000, 20_000, period_s=3_000),
    Model("runs of 130 ms + 26 ms a row, targets for 100 and 20", 100_000, 20_000, slower=1.3),
)


def scalings(model: Model) -> Iterator[tuple[str, Autoscaling]]:
    """Each metric with a low, a usual and a high target."""
    one = Autoscaling("replicas_needed", 1.0, interval_s=15, start_s=20, hold_s=60)
    for share in (0.5, 0.7, 0.9):
        yield f"utilisation {share:g}", replace(one, metric="utilisation", target=share)
    for share in (0.5, 0.7, 0.9):
        target = share * model.rows_per_s
        yield f"rows_per_s {share:g} of capacity", replace(one, metric="rows_per_s", target=target)
    for target in (0.75, 1.0, 1.25):
        yield f"replicas_needed {target:g}", replace(one, target=target)


USUAL = ("utilisation 0.7", "rows_per_s 0.7 of capacity", "replicas_needed 0.75", "replicas_needed 1")


def scaled(model: Model, scaling: Autoscaling | None, replicas: int, requests: int) -> FleetResult:
    """A load that rises and falls, of which the peak is 0.9 of what `replicas` can have in time."""
    return simulate_fleet(
        Wave(
            0.5 * replicas * model.rows_per_s / model.slower,
            swing=0.8,
            period_s=model.period_s,
            kinds=(RequestKind(deadline_ms=SCALED_DEADLINE_MS),),
        ),
        model.table(model.slower),
        replicas=replicas,
        autoscaling=None if scaling is None else replace(scaling, most=4 * replicas),
        stale_ms=5,
        network_ms=0.5,
        warmup=True,
        requests=requests,
        seed=SEED,
        max_batch_size=SCALED_BATCH,
        drain=False,
    )


def of_metrics(sizes: Sequence[int], a_replica: int) -> Iterator[Section]:
    """A table for each model: all targets for up to 100 replicas, and the usual ones for more."""
    for model in MODELS:
        table = Section(
            f"Metrics: a load that rises and falls, {model.name}",
            [
                *("scaled by", "replicas at most", "in time", "p99 ms", "replica-s/1000 good"),
                *("simulated in s", "replicas on average"),
            ],
        )
        for replicas in sizes if model.period_s == 300 else [size for size in sizes if size <= 100]:
            ways: list[tuple[str, Autoscaling | None]] = [("nothing", None), *scalings(model)]
            for name, scaling in ways:
                few = replicas > 100 or model.is_variation
                if few and scaling is not None and name not in USUAL:
                    continue
                began = time.perf_counter()
                # Several waves come in any case.
                requests = round(replicas * a_replica * model.period_s / 300)
                result = scaled(model, scaling, replicas, requests)
                add(table, [name, f"{result.most_replicas:,}"], result, began, f"{result.mean_replicas:,.1f}")
        yield table


def add(table: Section, names: list[str], result: FleetResult, began: float, *more: str) -> None:
    """A row, and its figures as they are."""
    took_s = time.perf_counter() - began
    of = result.requests
    cost = result.replica_s_per_1000_good
    figures = [of.in_time / of.offered, of.p99_ms, cost]
    table.raw[f"{names[0]}, {result.replicas}"] = [*figures, took_s, result.mean_replicas]
    shown = [f"{figures[0]:.2%}", f"{of.p99_ms:,.1f}", "" if math.isinf(cost) else f"{cost:,.3g}"]
    table.rows.append([*names, *shown, f"{took_s:.1f}", *more])
    if result.replicas == max(REPLICAS):
        table.verdict(f"seconds for {of.offered:,} requests, {names[0]}", took_s, at_most=300)


SECTIONS = {"routers": of_routers, "metrics": of_metrics}


def main() -> None:
    """Simulates, prints, and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_scale", description=__doc__)
    parser.add_argument("--only", choices=tuple(SECTIONS), help="one of the two")
    parser.add_argument("--replicas", type=int, nargs="+", default=REPLICAS, metavar="N")
    parser.add_argument(
        "--quick", action="store_true", help="10 replicas and few requests, to see that everything works"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure here")
    options = parser.parse_args()
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    sizes, a_replica = (REPLICAS[:1], 1_000) if options.quick else (options.replicas, REQUESTS_A_REPLICA)
    sections: dict[str, Section] = {}
    for name, tables in SECTIONS.items():
        if options.only in (None, name):
            for table in tables(sizes, a_replica):
                sections[table.title] = table
                harness.show(table)
    if options.json:
        effort = {"replicas": list(sizes), "requests_a_replica": a_replica}
        harness.write_json(options.json, sections, effort)


if __name__ == "__main__":
    main()
