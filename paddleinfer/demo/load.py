"""The demo's load, and what serves it: an Engine or Paddle's predictors, for threads or asyncio tasks."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import math
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer.engine.engine import Engine

__all__ = [
    "Images",
    "Labels",
    "Load",
    "LockedPredictor",
    "Outcome",
    "PredictorPerThread",
    "Scores",
    "Variant",
    "drive_tasks",
    "drive_threads",
]

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Scores = npt.NDArray[Any]

# How often the progress bar moves.
_TICK_S = 0.05


@dataclass(frozen=True)
class Variant:
    """One row of the demo's table: its name, a note on it, and the engine, where an engine serves it."""

    name: str
    note: str = ""
    engine: Engine | None = None


@dataclass(frozen=True)
class Load:
    """One image after another from all callers, over and over for some seconds, at least once each."""

    images: Images
    callers: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What one variant did with the load."""

    variant: Variant
    labels: Labels
    changed: int
    """Answers that said something else than an earlier one to the same image."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    rows_per_run: float
    """Mean rows in one run of the model."""


class _Paddle:
    """A Paddle predictor, and the loop of Paddle's documentation."""

    def __init__(self, predictor: Any) -> None:
        self.predictor = predictor
        self._input = predictor.get_input_handle(predictor.get_input_names()[0])
        self._output = predictor.get_output_handle(predictor.get_output_names()[0])

    def scores(self, rows: Images) -> Scores:
        """The first output for these rows."""
        self._input.reshape(list(rows.shape))
        self._input.copy_from_cpu(rows)
        self.predictor.run()
        result: Scores = self._output.copy_to_cpu()
        return result


def _config(inference: Any, directory: Path) -> Any:
    program = next(path for path in directory.iterdir() if path.suffix in (".json", ".pdmodel"))
    config = inference.Config(str(program), str(program.with_suffix(".pdiparams")))
    config.disable_glog_info()
    return config


class LockedPredictor:
    """What Paddle offers as it comes: one predictor, and a lock because threads may not share it."""

    VARIANT = Variant("Paddle predictor + lock", "default settings")

    def __init__(self, directory: Path) -> None:
        inference: Any = importlib.import_module("paddle.inference")
        self._paddle = _Paddle(inference.create_predictor(_config(inference, directory)))
        self._lock = threading.Lock()

    def scores(self, rows: Images) -> Scores:
        """The first output for these rows, once it is this thread's turn."""
        with self._lock:
            return self._paddle.scores(rows)


class PredictorPerThread:
    """A clone of one predictor for every thread that calls.

    Without oneDNN: with it, and Paddle's own cache capacity, predictors that run at once can crash.
    """

    VARIANT = Variant("Paddle predictor per thread", "oneDNN off")

    def __init__(self, directory: Path, threads: int) -> None:
        inference: Any = importlib.import_module("paddle.inference")
        config = _config(inference, directory)
        # Paddle 3.3 renamed its mkldnn_ methods; before 3.0 oneDNN was off anyway.
        disable = getattr(config, "disable_onednn", None) or getattr(config, "disable_mkldnn", None)
        if disable is not None:
            disable()
        first = inference.create_predictor(config)
        # Held here, too, for a predictor should not end with the thread that used it.
        self._all = [_Paddle(first), *(_Paddle(first.clone()) for _ in range(threads - 1))]
        self._free = list(self._all)
        self._own = threading.local()

    def scores(self, rows: Images) -> Scores:
        """The first output for these rows, from this thread's own predictor."""
        mine: _Paddle | None = getattr(self._own, "paddle", None)
        if mine is None:
            mine = self._own.paddle = self._free.pop()
        return mine.scores(rows)


class _Tally:
    """Hands out the images, and notes the answers. All callers share it."""

    def __init__(self, variant: Variant, load: Load, progress: Any) -> None:
        self._variant = variant
        self._load = load
        self._progress = progress
        self._bar = progress.add_task(variant.name, total=load.seconds, note="")
        self._labels = [-1] * len(load.images)
        self._changed: list[int] = []
        self._tickets = itertools.count()
        self._began = self._ends_at = math.inf
        self._runs_before = (0, 0)
        self.latencies: list[list[float]] = [[] for _ in range(load.callers)]
        self.stopped = False

    def _runs(self) -> tuple[int, int]:
        if self._variant.engine is None:
            return (0, 0)
        stats = self._variant.engine.stats()
        return stats["executed_rows"], stats["executions"]

    def start(self) -> None:
        """The clock starts."""
        self._runs_before = self._runs()
        self._began = time.perf_counter()
        self._ends_at = self._began + self._load.seconds

    def take(self) -> int | None:
        """The place of the next image to ask for; None when that is all."""
        ticket, count = next(self._tickets), len(self._labels)
        if self.stopped or (ticket >= count and time.perf_counter() >= self._ends_at):
            return None
        return ticket % count

    def note(self, index: int, scores: Scores) -> None:
        """An answer has come."""
        # Not argmax, which lets go of the GIL for ten numbers, and then waits for it among all the callers.
        values = scores[0].tolist()
        label = values.index(max(values))
        known, self._labels[index] = self._labels[index], label
        if known not in (-1, label):
            self._changed.append(index)

    def tick(self) -> None:
        """Moves the progress bar."""
        done = sum(len(mine) for mine in self.latencies)
        gone = min(time.perf_counter() - self._began, self._load.seconds)
        self._progress.update(self._bar, completed=gone, note=f"{done:,} answers")

    def outcome(self) -> Outcome:
        """What came of it; the clock stops."""
        elapsed = time.perf_counter() - self._began
        rows, runs = (now - before for now, before in zip(self._runs(), self._runs_before, strict=True))
        self.tick()
        self._progress.update(self._bar, completed=self._load.seconds)
        taken_ms = np.concatenate([np.asarray(mine) for mine in self.latencies]) * 1e3
        p50, p99, slowest = (float(value) for value in np.percentile(taken_ms, [50, 99, 100]))
        return Outcome(
            variant=self._variant,
            labels=np.asarray(self._labels, np.int64),
            changed=len(self._changed),
            requests_per_second=len(taken_ms) / elapsed,
            p50_ms=p50,
            p99_ms=p99,
            slowest_ms=slowest,
            rows_per_run=rows / runs if runs else 1.0,
        )


def drive_threads(variant: Variant, scores: Callable[[Images], Scores], load: Load, progress: Any) -> Outcome:
    """The load from threads."""
    images = load.images
    tally = _Tally(variant, load, progress)
    failures: list[BaseException] = []
    # Every thread has had an answer before the clock starts: first runs on a thread are slow.
    ready = threading.Barrier(load.callers + 1, action=tally.start)

    def work(mine: list[float]) -> None:
        try:
            scores(images[:1])
            ready.wait()
            while (index := tally.take()) is not None:
                begin = time.perf_counter()
                tally.note(index, scores(images[index : index + 1]))
                mine.append(time.perf_counter() - begin)
        except threading.BrokenBarrierError:
            pass
        except BaseException as error:
            failures.append(error)
            tally.stopped = True
            ready.abort()

    workers = [threading.Thread(target=work, args=(mine,), daemon=True) for mine in tally.latencies]
    try:
        for worker in workers:
            worker.start()
        ready.wait()
        while any(worker.is_alive() for worker in workers):
            time.sleep(_TICK_S)
            tally.tick()
    except threading.BrokenBarrierError:
        pass
    finally:
        # Also after Ctrl-C: no thread may be inside Paddle while the interpreter ends.
        tally.stopped = True
        ready.abort()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
    if failures:
        raise failures[0]
    return tally.outcome()


def drive_tasks(
    variant: Variant, scores: Callable[[Images], Awaitable[Scores]], load: Load, progress: Any
) -> Outcome:
    """The load from asyncio tasks on one event loop, the one that asyncio comes with."""
    images = load.images
    tally = _Tally(variant, load, progress)
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler

    async def work(mine: list[float]) -> None:
        while (index := tally.take()) is not None:
            begin = time.perf_counter()
            tally.note(index, await scores(images[index : index + 1]))
            mine.append(time.perf_counter() - begin)

    async def move_bar() -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            tally.tick()

    async def all_of_them() -> Outcome:
        this = asyncio.current_task()
        if interruptible and this is not None:
            # Else Ctrl-C breaks off whatever the loop is about, and Python 3.10 shows where.
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, this.cancel)
        await asyncio.gather(*(scores(images[:1]) for _ in range(load.callers)))
        moving = asyncio.create_task(move_bar())
        tally.start()
        await asyncio.gather(*(work(mine) for mine in tally.latencies))
        moving.cancel()
        return tally.outcome()

    try:
        return asyncio.run(all_of_them())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
