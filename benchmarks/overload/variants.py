"""Serves more requests than can be served, by one variant in a process of its own, which `Variant` starts.

A load changes a process (kernels, threads, a backlog), so each load has a fresh one.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psutil
import uvloop

from benchmarks import harness
from benchmarks.baselines import Bare, rows_of
from benchmarks.callers import baseline_batchers
from benchmarks.load.closed_loop import Row
from benchmarks.load.open_loop import DEADLINE_S, Generator, Tally, Tasks, Thread
from benchmarks.models import MODELS, directory

ROWS = 64
BATCHES = (1, 2, 4, 8, 16, 32)
# Seconds of full load before anything counts, so that times are learned and threads exist.
WARM_UP_S = 0.5


@dataclass(frozen=True)
class Full:
    """The results of instances that get full batches of one size, back to back."""

    rows: int
    rows_per_s: float
    mean_s: float
    p95_s: float

    @property
    def in_time(self) -> bool:
        """Whether a request that just missed a batch can still be answered in time."""
        return 2 * self.p95_s <= DEADLINE_S


@dataclass(frozen=True)
class Overload:
    """The results of a variant under one load. Times are by the caller's clock."""

    offered: int
    in_time_per_s: float
    in_time: float
    """The share of the offered requests."""
    late: int
    refused: int
    exceeded: int
    failed: int
    uncalled: int
    """The share that was not sent in time, or never answered."""
    shed: int
    expired: int
    ran: int
    """Rows that a model ran."""
    ran_in_time: float
    """Share of these whose result was the request's end, as the engine counts."""
    ran_in_hand: float
    """Share of these that the caller had in hand in time, by its own clock."""
    rows: float
    """The mean rows of a batch."""
    refusal_cpu_us: float
    refusal_p99_ms: float
    p50_ms: float
    p99_ms: float
    lag_p99_ms: float
    compared: int
    different: int
    reasons: dict[str, int]
    run_over_predicted: float
    """The 95th percentile; 0 if nothing is predicted."""
    others: float
    """The share of the machine's cores that other processes had meanwhile."""


class Variant(harness.Helper):
    """The parent's side of a variant's process."""

    def __init__(
        self,
        model: str,
        kind: str,
        expected: Sequence[Any],
        options: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__("overload.variants", model, kind, json.dumps(options or {}), environment=environment)
        self.tell(expected)
        self.in_force: dict[str, Any] = self.answer()

    def load(self, rate: float, seconds: float, seed: int) -> Overload:
        """Offers so many requests a second."""
        self.tell(["load", rate, seconds, seed])
        return Overload(**self.answer())

    def full(self, seconds: float) -> list[Full]:
        """Measures full batches of every size."""
        self.tell(["full", seconds])
        return [Full(**answer) for answer in self.answer()]


class Others:
    """Measures what other processes do from now on."""

    def __init__(self) -> None:
        self._begin = self._times()

    def share(self) -> float:
        """Returns their share of the machine's cores until now."""
        wall, busy, own = (end - begin for begin, end in zip(self._begin, self._times(), strict=True))
        return float(max(0.0, busy - own) / (wall * psutil.cpu_count()))

    @staticmethod
    def _times() -> tuple[float, float, float]:
        cores = psutil.cpu_times()
        busy = sum(getattr(cores, name) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
        return time.perf_counter(), busy, time.process_time()


def summed_up(
    tally: Tally, seconds: float, rows: Sequence[Row], others: Others, counted: Mapping[str, int]
) -> Overload:
    """Returns the figures of a load; `counted` is the engine's own count, empty for other variants."""
    ran = counted.get("executed_rows", tally.in_time + tally.late)
    results = counted.get("results", tally.in_time)
    executions = counted.get("executions", 0)
    predicted = tally.run_over_predicted()
    return Overload(
        others=others.share(),
        offered=max(1, tally.offered),
        in_time_per_s=tally.in_time / seconds,
        in_time=tally.in_time / max(1, tally.offered),
        late=tally.late,
        refused=tally.refused,
        exceeded=tally.exceeded,
        failed=tally.failed,
        uncalled=tally.uncalled + tally.offered - tally.over,
        shed=counted.get("shed", 0),
        expired=counted.get("expired", 0),
        ran=ran,
        ran_in_time=results / max(1, ran),
        ran_in_hand=tally.in_time / max(1, ran),
        rows=ran / executions if executions else 0.0,
        refusal_cpu_us=1e6 * sum(tally.refusal_cpu_s) / max(1, len(tally.refusal_cpu_s)),
        refusal_p99_ms=_percentile_ms(tally.refusal_s, 99),
        p50_ms=_percentile_ms(tally.latency_s, 50),
        p99_ms=_percentile_ms(tally.latency_s, 99),
        lag_p99_ms=_percentile_ms(tally.lag_s, 99),
        compared=len(tally.kept),
        different=tally.different(rows),
        reasons=tally.reasons(),
        run_over_predicted=float(np.percentile(predicted, 95)) if predicted else 0.0,
    )


def _percentile_ms(seconds: Sequence[float], percent: int) -> float:
    return 1e3 * float(np.percentile(seconds, percent)) if seconds else 0.0


def full_batches(infer: Callable[..., Any], instances: int, model: str, seconds: float) -> list[Full]:
    """Runs as many callers as instances, each with requests of a whole batch."""
    measured = []
    with ThreadPoolExecutor(instances) as callers:
        for rows in BATCHES:
            job = functools.partial(_back_to_back, infer, MODELS[model].feed(rows), seconds)
            taken = [
                each for caller in [callers.submit(job) for _ in range(instances)] for each in caller.result()
            ]
            mean, p95 = float(np.mean(taken)), float(np.percentile(taken, 95))
            measured.append(Full(rows, instances * rows / mean, mean, p95))
    return measured


def _back_to_back(infer: Callable[..., Any], feeds: Any, seconds: float) -> list[float]:
    clock = time.perf_counter
    for _ in range(3):
        infer(feeds)
    times = [clock()]
    while len(times) < 10 or times[-1] < times[0] + seconds:
        infer(feeds)
        times.append(clock())
    return [float(each) for each in np.diff(times)]


def settle() -> None:
    """Freezes objects, as callers with deadlines do: a collection after Paddle's import takes 0.1 s."""
    gc.collect()
    gc.freeze()


def serve_engine(model: str, kind: str, rows: Sequence[Row], options: Mapping[str, Any], stream: Any) -> None:
    """Serves by the engine, from a thread that submits or from tasks."""
    from paddleinfer import Engine

    with Engine(directory(model), **options) as engine:
        engine.warmup(MODELS[model].feed(1))
        settle()

        def submit(feeds: Any, timeout: float) -> Any:
            return engine.submit(feeds, timeout=timeout)

        generator: Generator = Thread(submit, rows)
        if kind == "uvloop":
            generator = Tasks(engine.ainfer, rows, uvloop.new_event_loop)
        in_force = {name: setting["value"] for name, setting in engine.effective_config().items()}

        def reply(question: Any) -> Any:
            if question[0] == "full":
                return [
                    asdict(full)
                    for full in full_batches(engine.infer, in_force["instances"], model, question[1])
                ]
            rate, seconds, seed = question[1:]
            generator.load(rate, WARM_UP_S, seed + 1)
            before, others = engine.stats(), Others()
            tally = generator.load(rate, seconds, seed)
            while (after := engine.stats())["running_executions"]:
                time.sleep(0.01)
            names = ("results", "executed_rows", "executions", "shed", "expired")
            counted = {name: after[name] - before[name] for name in names}
            return asdict(summed_up(tally, seconds, rows, others, counted))

        print(json.dumps(in_force), file=stream, flush=True)
        harness.serve(stream, reply)


def serve_batcher(model: str, rows: Sequence[Row], stream: Any) -> None:
    """Serves by the 40-line batcher. Callers drop late answers, of which it knows nothing."""
    bare = Bare(directory(model), as_engine=True)
    batcher = baseline_batchers.Batcher(bare)
    for batch in BATCHES:
        for _ in range(5):
            bare(MODELS[model].feed(batch))
    settle()
    generator = Thread(lambda feeds, _: batcher.submit(feeds), rows)

    def reply(question: Any) -> Any:
        rate, seconds, seed = question[1:]
        others = Others()
        return asdict(summed_up(generator.load(rate, seconds, seed), seconds, rows, others, {}))

    print(json.dumps({}), file=stream, flush=True)
    harness.serve(stream, reply)
    stream.flush()
    os._exit(0)  # its thread would run the rest of the backlog


def main(model: str, kind: str, options: str) -> None:
    """Runs in the child."""
    stream = harness.answers()
    expected = json.loads(sys.stdin.readline())
    feeds = rows_of(MODELS[model].feed(ROWS))
    rows = [Row(feed, answers) for feed, answers in zip(feeds, expected, strict=True)]
    if kind == "batcher":
        serve_batcher(model, rows, stream)
    else:
        serve_engine(model, kind, rows, json.loads(options), stream)


if __name__ == "__main__":
    main(*sys.argv[1:])
