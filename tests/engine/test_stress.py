"""Random rows, shapes and options from many threads: no crash, and every row as it would be alone.

Runs for ``--stress-seconds`` (real clock).
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import Zoo

import paddleinfer

Arrays = dict[str, np.ndarray]

_SECONDS_PER_ENGINE = 1.5
_CALLERS = 6


def drawn_options(rng: random.Random) -> dict[str, Any]:
    return {
        "ir_optim": rng.random() < 0.5,
        "mem_optim": rng.random() < 0.5,
        "onednn": rng.choice(["auto", True, False]),
        "cpu_threads": rng.choice([1, 1, 2]),
        "eager_deletion": rng.choice(["auto", True, False]),
        "inline": rng.random() < 0.5,
        "share_weights": rng.random() < 0.7,
        "max_onednn_shapes": rng.choice([1, 4, 64]),
        "max_onednn_cache_bytes": rng.choice([1, 1 << 20, 256 << 20]),
        "driver": rng.choice(["native", "native", "native", "python"]),
        "batchable": rng.choice([True, "auto"]),
        "max_batch_size": rng.choice([3, 8, 32]),
        "max_queue_delay_us": rng.choice([None, 0, 500]),
        "allowed_batch_sizes": rng.choice([(), (), (1, 2, 3)]),
        "on_full": rng.choice(["raise", "wait"]),
    }


def drawn_input(rng: np.random.Generator, name: str) -> np.ndarray:
    rows = int(rng.integers(1, 17) if rng.random() < 0.9 else rng.integers(17, 80))
    if name == "mlp":
        return rng.standard_normal((rows, 16)).astype("float32")
    height, width = (int(size) for size in rng.integers(2, 12, 2))
    return rng.standard_normal((rows, 3, height, width)).astype("float32")


def differences(results: Arrays, row: int, alone: Arrays) -> list[str]:
    found = []
    for output, value in alone.items():
        difference = np.abs(results[output][row : row + 1] - value).max()
        if not difference <= 1e-5 * np.abs(value).max():
            found.append(f"{output} differs by {difference}")
    return found


def leave_in_many_ways(engine: paddleinfer.Engine, rng: np.random.Generator, name: str) -> list[str]:
    """Requests whose callers do not stay: cancelled, out of time, or with arrays that are dropped at once."""
    futures = []
    for _ in range(4):
        futures.append(engine.submit([drawn_input(rng, name)], priority=int(rng.integers(0, 3))))
        if rng.random() < 0.5:
            futures[-1].cancel()
        try:
            engine.infer([drawn_input(rng, name)], timeout=float(rng.choice([0, 1e-4, 1e-3, 1e-2])))
        except (paddleinfer.DeadlineExceeded, paddleinfer.QueueFull):
            continue
    errors = [future.exception(30) for future in futures if not future.cancelled()]
    return [f"{error!r} because of {error.__cause__!r}" for error in errors if error is not None]


async def ask_together(
    engine: paddleinfer.Engine, rng: np.random.Generator, name: str, failures: list[str]
) -> None:
    """Tasks of one loop, one of which is cancelled; each answer against a row of its own alone."""
    inputs = [drawn_input(rng, name) for _ in range(6)]
    tasks = [asyncio.ensure_future(engine.ainfer([x], timeout=30)) for x in inputs]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for x, task in list(zip(inputs, tasks, strict=True))[1:]:
        row = int(rng.integers(0, len(x)))
        failures += differences(task.result(), row, await engine.ainfer([x[row : row + 1]]))


def call_until(
    engine: paddleinfer.Engine, name: str, end: float, seed: list[int], failures: list[str]
) -> None:
    rng = np.random.default_rng(seed)
    try:
        while time.monotonic() < end and not failures:
            x = drawn_input(rng, name)
            row = int(rng.integers(0, len(x)))
            together = engine.submit([x]) if rng.random() < 0.3 else None
            results = engine.infer([x], timeout=30) if together is None else together.result(30)
            failures += differences(results, row, engine.infer([x[row : row + 1]]))
            if rng.random() < 0.1:
                failures += leave_in_many_ways(engine, rng, name)
            if rng.random() < 0.05:
                asyncio.run(ask_together(engine, rng, name, failures))
    except Exception as error:
        failures.append(repr(error))


@pytest.mark.stress
def test_four_instances_under_drawn_options_answer_as_single_rows_do(zoo: Zoo, stress_seconds: float) -> None:
    seed = 20
    rng = random.Random(seed)
    end = time.monotonic() + stress_seconds
    drawn = 0
    while time.monotonic() < end:
        name = rng.choice(["mlp", "conv"])
        directory: Path = zoo.directory(name, rng.choice(zoo.formats))
        options = drawn_options(rng)
        drawn += 1
        failures: list[str] = []
        with paddleinfer.Engine(directory, instances=4, **options) as engine:
            until = time.monotonic() + _SECONDS_PER_ENGINE
            callers = [
                threading.Thread(
                    target=call_until, args=(engine, name, until, [seed, drawn, caller], failures)
                )
                for caller in range(_CALLERS)
            ]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
        stats = engine.stats()
        assert not failures, (directory.name, options, failures[:3])
        ends = ("results", "errors", "cancelled", "expired", "shed", "closed")
        assert stats["requests"] == sum(stats[end] for end in ends) > 0
        left = (
            "queued_requests",
            "queued_rows",
            "queued_bytes",
            "requests_waiting_for_room",
            "running_executions",
        )
        assert [stats[name] for name in left] == [0] * len(left), options
        assert stats["errors"] == 0 and stats["results"] > stats["requests"] / 2
    assert drawn > 0
