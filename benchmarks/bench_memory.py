"""Measures what requests, shapes and instances cost in memory, each in a fresh process.

``python -m benchmarks.bench_memory [--requests N] [--shapes N] [--json FILE] [--only NAME ...]``
"""

from __future__ import annotations

import argparse
import functools
import gc
import itertools
import json
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.models import MODELS, directory

CALLERS = 4
SIZES = (1, 2, 3, 5, 8, 13, 16, 24, 32)
WARM_UP = 500_000  # until every thread has run every size, inline runs on the callers' threads included
GROWTH_MB = 10
# Two instances keep the kernels of 128 shapes each (max_onednn_shapes), up to 3 MB a shape.
SHAPES_BOUND_MB = 700
SECOND_HALF_MB = 50
INSTANCE_MB = 10
INSTANCES = 4
REPEATS = 3


def rss_mb() -> float:
    """Returns this process's resident memory, counted page by page, because the quick counters lag behind."""
    gc.collect()
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Rss:")) / 1024


def requests(onednn: bool, count: int) -> list[float]:
    """Returns the growth in megabytes since the warm-up, at ten points, over requests of mixed sizes."""
    from paddleinfer import Engine

    model = MODELS["mlp"]
    feeds = [model.feed(size) for size in SIZES]
    with (
        Engine(directory("mlp"), instances=2, onednn=onednn) as engine,
        ThreadPoolExecutor(CALLERS) as callers,
    ):
        mixed = itertools.cycle(np.random.default_rng(1).permutation(len(feeds) * 100) % len(feeds))

        def ask(times: int) -> None:
            for _ in range(times):
                engine.infer(feeds[next(mixed)])

        def ask_all(times: int) -> None:
            list(callers.map(ask, [times // CALLERS] * CALLERS))

        ask_all(WARM_UP)
        before = rss_mb()
        grown = []
        for _ in range(10):
            ask_all(count // 10)
            grown.append(rss_mb() - before)
        return grown


def shapes(count: int) -> list[float]:
    """Returns the growth in megabytes since the first shape, after each hundredth of the distinct shapes."""
    from paddleinfer import Engine

    random = np.random.default_rng(1)
    sides = list(itertools.product(range(32, 32 + 64), repeat=2))
    distinct = random.permutation(sides)[:count].tolist()
    with (
        Engine(directory("mobilenet_v2"), instances=2, onednn=True) as engine,
        ThreadPoolExecutor(2) as callers,
    ):

        def ask(side: list[int]) -> None:
            engine.infer(np.full((1, 3, *side), 0.5, np.float32))

        # Two callers keep both instances running.
        list(callers.map(ask, distinct[:1] * 20))
        before = rss_mb()
        grown = []
        step = max(1, count // 100)
        for start in range(0, count, step):
            list(callers.map(ask, distinct[start : start + step]))
            grown.append(rss_mb() - before)
        return grown


def engine_instances(format: str, instances: int) -> list[float]:
    """Returns resident megabytes with this many instances of the wide MLP, each of which has run."""
    from paddleinfer import Engine

    with Engine(directory("wide_mlp", format), instances=instances, onednn=False) as engine:
        row = MODELS["wide_mlp"].feed(1)
        with ThreadPoolExecutor(4 * instances) as callers:
            list(callers.map(lambda _: engine.infer(row), range(50 * instances)))
        return [rss_mb()]


def paddle_instances(format: str, instances: int) -> list[float]:
    """Returns the same for Paddle's own clones."""
    from benchmarks.baselines import Bare

    row = MODELS["wide_mlp"].feed(1)
    bares = [Bare(directory("wide_mlp", format), as_engine=True, onednn=False)]
    bares += [bares[0].clone() for _ in range(instances - 1)]
    for bare in bares:
        bare(row)
    return [rss_mb()]


MEASURED: dict[str, Callable[[int], list[float]]] = {
    "requests, oneDNN on": functools.partial(requests, True),
    "requests, oneDNN off": functools.partial(requests, False),
    "shapes": shapes,
    "engine, json": functools.partial(engine_instances, "json"),
    "engine, legacy": functools.partial(engine_instances, "legacy"),
    "Paddle's clone(), json": functools.partial(paddle_instances, "json"),
    "Paddle's clone(), legacy": functools.partial(paddle_instances, "legacy"),
}


def measure(name: str, amount: int) -> list[float]:
    """Runs one of MEASURED in a fresh process."""
    answer: list[float] = harness.child("bench_memory", "--measure", name, str(amount))
    return answer


def requests_section(count: int) -> harness.Section:
    """Measures a million requests of mixed sizes."""
    title = f"4. Growth over {count:,} requests of 1 to 32 rows, MLP, {CALLERS} callers, 2 instances"
    section = harness.Section(title, ["setting", "MB at the end", "highest MB"])
    for name in ("requests, oneDNN on", "requests, oneDNN off"):
        grown = section.raw[name] = measure(name, count)
        setting = name.partition(", ")[2]
        section.rows.append([setting, f"{grown[-1]:.1f}", f"{max(grown):.1f}"])
        section.verdict(f"MB grown, {setting}", max(grown), at_most=GROWTH_MB)
    return section


def shapes_section(count: int) -> harness.Section:
    """Measures a thousand distinct shapes."""
    section = harness.Section(
        f"4. Growth over {count:,} distinct input shapes, mobilenet_v2, oneDNN on, 2 instances",
        ["after shapes", "MB"],
    )
    grown = section.raw["shapes"] = measure("shapes", count)
    step = max(1, count // 100)
    for place in range(9, len(grown), 10):
        section.rows.append([str((place + 1) * step), f"{grown[place]:.0f}"])
    section.verdict("highest MB", max(grown), at_most=SHAPES_BOUND_MB)
    half = grown[len(grown) // 2 - 1]
    section.verdict("MB grown over the second half", max(grown) - half, at_most=SECOND_HALF_MB)
    return section


def instances_section() -> harness.Section:
    """Measures a further instance of the wide MLP."""
    section = harness.Section(
        "4. A further instance of the wide MLP (85 MB of weights), oneDNN off", ["variant", "MB", "unit"]
    )
    for name in list(MEASURED)[3:]:
        costs = []
        for _ in range(REPEATS):
            (one,), (all_of_them,) = measure(name, 1), measure(name, INSTANCES)
            costs.append((all_of_them - one) / (INSTANCES - 1))
        section.measured(name, costs, "MB")
        if name.startswith("engine"):
            section.verdict(
                f"MB for a further instance, {name}", statistics.median(costs), at_most=INSTANCE_MB
            )
    return section


def main() -> None:
    """Measures all three sections, or makes one measurement for another process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_memory", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--shapes", type=int, default=1_000, metavar="N", help="at most 4,096")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    names = ["requests", "shapes", "instances"]
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names)
    )
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "AMOUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        stream = harness.answers()
        json.dump(MEASURED[options.measure[0]](int(options.measure[1])), stream)
        stream.close()
        return
    for name in MODELS:
        directory(name)
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    makers: dict[str, Callable[[], harness.Section]] = {
        "requests": lambda: requests_section(options.requests),
        "shapes": lambda: shapes_section(options.shapes),
        "instances": instances_section,
    }
    sections = {}
    for name in options.only:
        sections[name] = makers[name]()
        harness.show(sections[name])
    if options.json:
        effort: dict[str, Any] = {"requests": options.requests, "shapes": options.shapes}
        harness.write_json(options.json, sections, effort)


if __name__ == "__main__":
    main()
