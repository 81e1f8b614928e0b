"""Reports requests of one row from 1, 8 and 64 callers at once: the engine and its baselines, by model."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from benchmarks.callers.rounds import (
    AS_IT_COMES,
    DEFAULTS,
    NO_ONEDNN,
    PLANS,
    Measured,
    limit_of,
    measure,
)
from benchmarks.callers.variants import ASYNCIO, BATCHER, MOST_CALLERS, PER_THREAD, THREADS, UVLOOP
from benchmarks.harness import Effort, Section, differences, ratios, spread


def section(model: str, effort: Effort) -> Section:
    """All variants and all numbers of callers on one model."""
    measured = measure(model, effort)
    table = Section(
        f"{model}: requests of one row, each caller back to back",
        ["callers", "variant", "requests/s", "p50 us", "p99 us", "of the bare limit"],
    )
    for (batch, name), rates in measured.limits.items():
        key = f"{name}, batch {batch}"
        table.raw[f"{key}, rows/s"] = rates
        table.rows.append(["", key, spread(rates), "", "", ""])
    plan = PLANS[model]
    settings = {name: options.get("onednn") for name, options in plan.engines.items()}
    for (callers, variant), loads in measured.loads.items():
        rates = measured.rates(callers, variant)
        p50s, p99s = [load.p50_us for load in loads], [load.p99_us for load in loads]
        key = f"{callers} callers, {variant}"
        table.raw |= {f"{key}, requests/s": rates, f"{key}, p50 us": p50s, f"{key}, p99 us": p99s}
        limit = measured.limit(limit_of(settings.get(variant.rpartition(", ")[0], plan.onednn)))
        part = f"{statistics.median(ratios(rates, limit)):.2f}"
        table.rows.append([str(callers), variant, spread(rates), spread(p50s), spread(p99s), part])
    if model in VERDICTS:
        VERDICTS[model](table, measured)
    all_loads = [load for loads in measured.loads.values() for load in loads]
    compared, different = sum(load.compared for load in all_loads), sum(load.different for load in all_loads)
    table.verdict(f"answers that differ, of {compared:,} compared", different, at_most=0)
    return table


def mlp(table: Section, measured: Measured) -> None:
    """Compares where Python costs most: with the best of `batched`, the 40-line batcher and the bare loop."""
    many = MOST_CALLERS
    batched = measured.best(many, "batched", ASYNCIO)
    for loop, baseline, least in ((ASYNCIO, batched, 3.5), (UVLOOP, batched, 4.5), (THREADS, BATCHER, 4)):
        engine = measured.best(many, "engine", loop)
        gain = statistics.median(ratios(measured.rates(many, engine), measured.rates(many, baseline)))
        table.verdict(f"{many} callers: {engine}, times {baseline}", gain, at_least=least)
    bare = [load.p50_us for load in measured.loads[1, PER_THREAD]]
    for loop, most in ((ASYNCIO, 45), (UVLOOP, 20)):
        engine = f"{NO_ONEDNN}, {loop}"
        over = differences([load.p50_us for load in measured.loads[1, engine]], bare)
        table.verdict(f"1 caller: {engine}, us over the bare loop", statistics.median(over), at_most=most)
    for loop in (THREADS, ASYNCIO, UVLOOP):
        engine = measured.best(many, "engine", loop)
        times = [load.p99_us / load.p50_us for load in measured.loads[many, engine]]
        table.verdict(f"{many} callers: {engine}, p99 over p50", statistics.median(times), at_most=3)


def wide_mlp(table: Section, measured: Measured) -> None:
    """Compares where batches pay most: with two bare processes that get full ones."""
    for name, options in PLANS["wide_mlp"].engines.items():
        for loop, least in ((ASYNCIO, 0.9), (UVLOOP, 0.9), (THREADS, 0.85)):
            rates = measured.rates(MOST_CALLERS, f"{name}, {loop}")
            part = statistics.median(ratios(rates, measured.limit(limit_of(options.get("onednn")))))
            table.verdict(f"{MOST_CALLERS} callers: {name}, {loop}, of its bare limit", part, at_least=least)


def mobilenet_v2(table: Section, measured: Measured) -> None:
    """Compares where batches pay little: with two bare processes, at their best and with the defaults."""
    rates = measured.rates(8, f"{DEFAULTS}, {THREADS}")
    for limit, least in ((limit_of(None), 0.9), (AS_IT_COMES, 1.2)):
        part = statistics.median(ratios(rates, measured.limit(limit)))
        table.verdict(f"8 callers: {DEFAULTS}, {THREADS}, of {limit}", part, at_least=least)


VERDICTS: dict[str, Callable[[Section, Measured], None]] = {
    "mlp": mlp,
    "wide_mlp": wide_mlp,
    "mobilenet_v2": mobilenet_v2,
}
