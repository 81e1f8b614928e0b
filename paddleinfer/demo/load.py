"""The demo's load, and what serves it: an Engine or Paddle's predictors, for threads or asyncio tasks."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer.engine.engine import Engine
from paddleinfer.traffic.callers import Callers, call_from_tasks, call_from_threads
from paddleinfer.traffic.tally import Tally

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
    """The results of one variant under the load."""

    variant: Variant
    labels: Labels
    changed: int
    """How many answers differed from an earlier one to the same image."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    slowest_ms: float
    rows_per_run: float
    """Mean rows in one run of the model."""


class _Paddle:
    """A Paddle predictor, driven by the loop of Paddle's documentation."""

    def __init__(self, predictor: Any) -> None:
        self.predictor = predictor
        self._input = predictor.get_input_handle(predictor.get_input_names()[0])
        self._output = predictor.get_output_handle(predictor.get_output_names()[0])

    def scores(self, rows: Images) -> Scores:
        """Returns the first output for these rows."""
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
    """Paddle as it comes: one predictor, and a lock, because threads must not share it."""

    VARIANT = Variant("Paddle predictor + lock", "default settings")

    def __init__(self, directory: Path) -> None:
        inference: Any = importlib.import_module("paddle.inference")
        self._paddle = _Paddle(inference.create_predictor(_config(inference, directory)))
        self._lock = threading.Lock()

    def scores(self, rows: Images) -> Scores:
        """Returns the first output for these rows, once it is this thread's turn."""
        with self._lock:
            return self._paddle.scores(rows)


class PredictorPerThread:
    """A clone of one predictor for every thread that calls.

    oneDNN is off: with it, and with Paddle's own cache capacity, predictors that run at once can crash.
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
        # They are also kept here, because a predictor should not end with the thread that used it.
        self._all = [_Paddle(first), *(_Paddle(first.clone()) for _ in range(threads - 1))]
        self._free = list(self._all)
        self._own = threading.local()

    def scores(self, rows: Images) -> Scores:
        """Returns the first output for these rows, from this thread's own predictor."""
        mine: _Paddle | None = getattr(self._own, "paddle", None)
        if mine is None:
            mine = self._own.paddle = self._free.pop()
        return mine.scores(rows)


class _Answers:
    """The answers of one variant to the images; all callers share it."""

    def __init__(self, variant: Variant, load: Load, progress: Any) -> None:
        self._variant = variant
        self._load = load
        self._progress = progress
        self._bar = progress.add_task(variant.name, total=load.seconds, note="")
        self._labels = [-1] * len(load.images)
        self._changed: list[int] = []
        self._runs_before = (0, 0)
        self.callers = Callers(load.callers, load.seconds, fewest=len(load.images))

    def _runs(self) -> tuple[int, int]:
        if self._variant.engine is None:
            return (0, 0)
        stats = self._variant.engine.stats()
        return stats["executed_rows"], stats["executions"]

    def begin(self) -> None:
        """Begins the load."""
        self._runs_before = self._runs()

    def first_image(self) -> Images:
        """The input of runs before the load: the first runs on a thread are slow."""
        return self._load.images[:1]

    def image(self, number: int) -> Images:
        """Returns the image of the request with this number."""
        place = number % len(self._labels)
        return self._load.images[place : place + 1]

    def note(self, number: int, scores: Scores) -> None:
        """Notes the answer to that request."""
        # argmax would release the GIL for ten numbers, and then wait for it among all the callers.
        values = scores[0].tolist()
        label = values.index(max(values))
        place = number % len(self._labels)
        known, self._labels[place] = self._labels[place], label
        if known not in (-1, label):
            self._changed.append(place)

    def tick(self, seconds: float, answers: int) -> None:
        """Moves the progress bar."""
        done = min(seconds, self._load.seconds)
        self._progress.update(self._bar, completed=done, note=f"{answers:,} answers")

    def outcome(self, tally: Tally) -> Outcome:
        """Returns the results, once the load is over."""
        rows, runs = (now - before for now, before in zip(self._runs(), self._runs_before, strict=True))
        self.tick(self._load.seconds, len(tally.latencies_ms))
        p50, p99, slowest = (float(value) for value in np.percentile(tally.latencies_ms, [50, 99, 100]))
        return Outcome(
            variant=self._variant,
            labels=np.asarray(self._labels, np.int64),
            changed=len(self._changed),
            requests_per_second=len(tally.latencies_ms) / tally.seconds,
            p50_ms=p50,
            p99_ms=p99,
            slowest_ms=slowest,
            rows_per_run=rows / runs if runs else 1.0,
        )


def drive_threads(variant: Variant, scores: Callable[[Images], Scores], load: Load, progress: Any) -> Outcome:
    """Drives the load from threads."""
    answers = _Answers(variant, load, progress)
    tally = call_from_threads(
        answers.callers,
        lambda number: answers.note(number, scores(answers.image(number))),
        first=lambda: scores(answers.first_image()),
        begin=answers.begin,
        tick=answers.tick,
    )
    return answers.outcome(tally)


def drive_tasks(
    variant: Variant, scores: Callable[[Images], Awaitable[Scores]], load: Load, progress: Any
) -> Outcome:
    """Drives the load from asyncio tasks on one event loop."""
    answers = _Answers(variant, load, progress)

    async def ask(number: int) -> None:
        answers.note(number, await scores(answers.image(number)))

    tally = call_from_tasks(
        answers.callers,
        ask,
        first=lambda: scores(answers.first_image()),
        begin=answers.begin,
        tick=answers.tick,
    )
    return answers.outcome(tally)
