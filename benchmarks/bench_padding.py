"""Measures what padding gains for sequences of 8 to 64 tokens, as they are and padded to a few lengths.

``python -m benchmarks.bench_padding [--quick] [--json FILE]``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from benchmarks import harness
from benchmarks.baselines import Bare
from benchmarks.harness import TOLERANCE, Effort, Section, interleave, ratios, spread
from benchmarks.models import SEED, directory
from paddleinfer import Engine, PadAxis

MODEL = "masked_transformer"
CALLERS = 64
SHORTEST, LONGEST = 8, 64
VOCABULARY = 1000
# The number of different requests; each caller goes through all of them, from another start.
REQUESTS = 1024
# The share of each window before it counts.
RAMP = 0.3

UNPADDED, PADDED = "as they are", "padded to a multiple of 16"
WITHOUT = ", oneDNN off"

Feeds = Mapping[str, "np.ndarray[Any, Any]"]
Results = Mapping[str, "np.ndarray[Any, Any]"]


def variants(outputs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns name -> options of an engine. The first output has the tokens' axis, the other is pooled."""
    pad = functools.partial(PadAxis, inputs={"ids": 1}, mask="mask", outputs={outputs[0]: 1})
    return {
        UNPADDED: {},
        PADDED: {"pad": pad(multiple=16)},
        "padded to 32 or 64": {"pad": pad(sizes=(32, 64))},
        UNPADDED + WITHOUT: {"onednn": False},
        PADDED + WITHOUT: {"onednn": False, "pad": pad(multiple=16)},
    }


def requests() -> list[Feeds]:
    """Makes requests of one row each, of evenly drawn lengths; the mask leaves nothing out."""
    random = np.random.default_rng(SEED)
    drawn: list[Feeds] = []
    for _ in range(REQUESTS):
        shape = (1, int(random.integers(SHORTEST, LONGEST + 1)))
        drawn.append({"ids": random.integers(0, VOCABULARY, shape), "mask": np.ones(shape, np.float32)})
    return drawn


@dataclass(frozen=True)
class Load:
    """The callers' results within one window."""

    requests_per_s: float
    rows: float
    """The mean rows of a run."""


class Callers:
    """Tasks on an event loop of their own; each asks again as soon as it has an answer."""

    def __init__(self, engine: Engine, asked: Sequence[Feeds]) -> None:
        self.engine = engine
        self._asked = asked
        self._loop = uvloop.new_event_loop()

    def load(self, seconds: float) -> Load:
        """Runs all callers for so many seconds."""
        return self._loop.run_until_complete(self._load(seconds))

    def infos(self) -> list[tuple[Results, Any]]:
        """Sends every request once, from all callers at a time; returns results and their InferInfos."""
        return self._loop.run_until_complete(self._each_once())

    async def _load(self, seconds: float) -> Load:
        """Unlike ``paddleinfer.traffic``: on uvloop, and with the engine's statistics of the window alone."""
        done = 0
        end = time.perf_counter() + (1 + RAMP) * seconds

        async def caller(place: int) -> None:
            nonlocal done
            while time.perf_counter() < end:
                await self.engine.ainfer(self._asked[place % REQUESTS])
                done += 1
                place += 1

        tasks = [asyncio.create_task(caller(number * REQUESTS // CALLERS)) for number in range(CALLERS)]
        await asyncio.sleep(RAMP * seconds)
        first, before, begin = done, self.engine.stats(), time.perf_counter()
        await asyncio.sleep(end - begin)
        count, after, taken = done - first, self.engine.stats(), time.perf_counter() - begin
        await asyncio.gather(*tasks)
        executions = after["executions"] - before["executions"]
        rows = after["executed_rows"] - before["executed_rows"]
        return Load(count / taken, rows / max(1, executions))

    async def _each_once(self) -> list[tuple[Results, Any]]:
        ends: list[Any] = [None] * REQUESTS

        async def caller(number: int) -> None:
            for place in range(number, REQUESTS, CALLERS):
                ends[place] = await self.engine.ainfer(self._asked[place], return_info=True)

        await asyncio.gather(*(caller(number) for number in range(CALLERS)))
        return ends


def difference(ours: Results, theirs: Results) -> float:
    """Returns the largest difference over the outputs, relative to the largest magnitude in each."""
    worst = 0.0
    for name, expected in theirs.items():
        if ours[name].shape != expected.shape:
            return float("inf")
        apart = np.abs(np.float64(ours[name]) - expected).max() / np.abs(expected).max()
        worst = max(worst, float(apart))
    return worst


def section(effort: Effort) -> Section:
    """Measures all variants in this process: no process-wide setting differs between them."""
    path, asked = directory(MODEL), requests()
    table = Section(
        f"{MODEL}: sequences of {SHORTEST} to {LONGEST} tokens, one each, {CALLERS} asyncio callers (uvloop)",
        [
            "variant",
            "requests/s",
            "of unpadded",
            "rows a run",
            "padding",
            "lengths",
            "most apart from unpadded",
        ],
    )
    with contextlib.ExitStack() as closing:
        plain = closing.enter_context(Engine(path, instances=1))
        bare = Bare(path, as_engine=True)
        alone = [plain.infer(feeds) for feeds in asked]
        for feeds, result in zip(asked[:64], alone, strict=False):
            harness.check_equal(result, bare(feeds))
        options = variants([tensor.name for tensor in plain.outputs])
        callers = {
            variant: Callers(closing.enter_context(Engine(path, **each)), asked)
            for variant, each in options.items()
        }
        for each in callers.values():
            each.load(effort.seconds)
        loads = interleave(
            {variant: functools.partial(each.load, effort.seconds) for variant, each in callers.items()},
            effort.rounds,
        )
        ends = {variant: each.infos() for variant, each in callers.items()}
    for variant, measured in loads.items():
        rates = [load.requests_per_s for load in measured]
        rows = [load.rows for load in measured]
        infos = [info for _, info in ends[variant]]
        padded = [info.padded_share for info in infos]
        apart = max(difference(ours, theirs) for (ours, _), theirs in zip(ends[variant], alone, strict=True))
        same = UNPADDED + (WITHOUT if variant.endswith(WITHOUT) else "")
        gain = statistics.median(ratios(rates, [load.requests_per_s for load in loads[same]]))
        table.raw |= {
            f"{variant}, requests/s": rates,
            f"{variant}, rows a run": rows,
            f"{variant}, padded share": padded,
        }
        share, kinds = f"{statistics.fmean(padded):.0%}", str(len({info.bucket for info in infos}))
        table.rows.append([variant, spread(rates), f"{gain:.2f}", spread(rows), share, kinds, f"{apart:.1g}"])
        table.verdict(f"{variant}: most apart from unpadded, one by one", apart, at_most=TOLERANCE)
    return table


def main() -> None:
    """Measures in a process of its own, prints, and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_padding", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a short and noisy run, to see that everything works"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    parser.add_argument("--section", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    effort = Effort.of(options.quick)
    if options.section:
        stream = harness.answers()
        json.dump(asdict(section(effort)), stream)
        stream.close()
        return
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    arguments = ["--section", *(["--quick"] if options.quick else [])]
    table = harness.section_of(harness.child("bench_padding", *arguments))
    harness.show(table)
    if options.json:
        harness.write_json(options.json, {"padding": table}, asdict(effort))


if __name__ == "__main__":
    main()
