"""Measures whom one bad request among 63 good ones in a batch harms, and what it costs, a hundred times.

``python -m benchmarks.callers.poisoned`` prints the section as JSON.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.baselines import Bare
from benchmarks.harness import Section, answers, equal
from benchmarks.models import EMBEDDED, SEED, directory
from paddleinfer import Engine, ModelError

TOGETHER = 64
TIMES = 100


async def at_once(engine: Engine, requests: list[Any]) -> list[Any]:
    """Sends all in one turn of the loop; returns (results, info) or the error of each."""
    calls = (engine.ainfer({"ids": ids}, return_info=True) for ids in requests)
    return await asyncio.gather(*calls, return_exceptions=True)


def section() -> Section:
    """The figure."""
    random = np.random.default_rng(SEED)
    path = directory("embedding")
    failed = different = shared = 0
    culprits, extra = 0, []
    with Engine(path, instances=1, max_batch_size=TOGETHER) as engine:
        bare = Bare(path, as_engine=True)
        engine.warmup(np.zeros((1, 6), np.int64))
        for _ in range(TIMES):
            requests = list(random.integers(0, EMBEDDED, (TOGETHER, 1, 6)))
            culprit = int(random.integers(TOGETHER))
            requests[culprit][0, random.integers(6)] = EMBEDDED
            before = engine.stats()["executions"]
            ends = asyncio.run(at_once(engine, requests))
            runs = engine.stats()["executions"] - before
            good = [place for place in range(TOGETHER) if place != culprit]
            broken = [place for place in good if isinstance(ends[place], BaseException)]
            fine = [place for place in good if place not in broken]
            failed += len(broken)
            culprits += isinstance(ends[culprit], ModelError)
            different += sum(not same(bare({"ids": requests[place]}), ends[place][0]) for place in fine)
            if all(ends[place][1].batch_rows == TOGETHER for place in fine):
                shared += 1
                extra.append(runs - 1)
    table = Section(
        f"One request out of range among {TOGETHER} in one batch, embedding, {TIMES} times",
        ["what", "figure", "unit"],
    )
    table.rows.append(["times all went in one batch", str(shared), f"of {TIMES}"])
    table.measured("runs of the model beyond the first", [float(runs) for runs in extra] or [0.0], "runs")
    table.rows.append(["bad ones that got a ModelError", str(culprits), f"of {TIMES}"])
    table.verdict("times all went in one batch", shared, at_least=TIMES)
    table.verdict("good ones that failed", failed, at_most=0)
    table.verdict("good ones whose answer is another than alone", different, at_most=0)
    table.verdict("bad ones that got a ModelError", culprits, at_least=TIMES)
    table.verdict("most runs beyond the first", max(extra, default=0), at_most=2 * math.log2(TOGETHER) + 1)
    return table


def same(expected: dict[str, Any], result: dict[str, Any]) -> bool:
    """Tells whether both have equal outputs."""
    return all(equal(result[name], array) for name, array in expected.items())


if __name__ == "__main__":
    stream = answers()
    json.dump(asdict(section()), stream)
    stream.close()
