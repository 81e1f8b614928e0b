"""Provides a scripted model: how long it runs, when it fails, when it hangs. It remembers every run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["FakePredictor", "PredictorRun"]

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Choice = Callable[[Arrays], object] | Collection[float]

# Longer than a test waits for anything: to reach it is a failure.
_PATIENCE_S = 30.0


@dataclass
class PredictorRun:
    """One run of a FakePredictor."""

    number: int
    """Its number; runs count from 0, in the order they began."""
    inputs: Arrays = field(repr=False)
    """A copy of its inputs."""
    rows: int
    """How many rows it had."""
    thread: str
    """The thread's name: "paddleinfer-0" for instance 0 of an engine or of a virtual engine."""
    error: BaseException | None = None
    """The error that it failed with."""

    @property
    def values(self) -> list[float]:
        """The first number of each row of the first input."""
        return [_first_number(row) for row in _rows(self.inputs)]


class FakePredictor:
    """A function for ``Engine.from_callable``, or a model for a VirtualEngine, that follows a test's script.

    Parameters
    ----------
    compute
        A function from inputs (a dict of arrays) to outputs. None returns the first input as "y".
    run_time_s
        Seconds that a run takes, or a function of its rows. An Engine sleeps them; a VirtualEngine's clock
        moves.
    fail_on
        Runs with one of these rows fail: numbers, for rows whose first number is one of them, or a function
        of one row (a dict of arrays without the batch axis).
    fail_calls
        The numbers of runs that fail, counted from 0.
    error
        A function that makes the exception of a failing run from a sentence.
    hang_on
        Runs with one of these rows hang until ``release()``; chosen as in `fail_on`.

    Raises
    ------
    ConfigError
        An argument is wrong.
    """

    inputs: Mapping[str, tuple[str, tuple[int, ...]]] = {"x": ("float32", (-1, -1))}
    """The inputs that ``paddle_engine`` declares for it if the test declares none."""
    outputs: tuple[str, ...] = ("y",)

    def __init__(
        self,
        compute: Callable[[Arrays], Any] | None = None,
        *,
        run_time_s: float | Callable[[int], float] = 0.0,
        fail_on: Choice = (),
        fail_calls: Collection[int] = (),
        error: Callable[[str], Exception] = RuntimeError,
        hang_on: Choice = (),
    ) -> None:
        for name, function in (("compute", compute or _first_as_y), ("error", error)):
            if not callable(function):
                raise ConfigError(f"{name} must be a function, not {shown(function)}")
        self._compute = compute or _first_as_y
        self._run_time_s = run_time_s
        self._fails = _chooser("fail_on", fail_on)
        self._fail_calls = frozenset(fail_calls)
        self._error = error
        self._hangs = _chooser("hang_on", hang_on)
        self._hanging = "chosen"  # a choice of rows, "all" or "none"; _changed guards it, and _runs
        self._runs: list[PredictorRun] = []
        self._changed = threading.Condition()

    @property
    def runs(self) -> list[PredictorRun]:
        """All runs that have begun, in that order."""
        with self._changed:
            return list(self._runs)

    def hang(self) -> None:
        """Makes runs that begin from now on hang until ``release()``."""
        with self._changed:
            self._hanging = "all"

    def release(self) -> None:
        """Releases the runs that hang; no run hangs from now on, until ``hang()`` is called.

        A virtual engine goes on with them in its next ``advance()`` or ``run_until_idle()``.
        """
        with self._changed:
            self._hanging = "none"
            self._changed.notify_all()

    def wait_for_runs(self, count: int) -> None:
        """Waits until `count` runs have begun in all, on an engine's threads."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._runs) >= count, _PATIENCE_S):
                raise AssertionError(
                    f"{len(self._runs)} runs, not {count}, of the fake predictor began in {_PATIENCE_S:g} s"
                )

    def __call__(self, inputs: Arrays) -> Any:
        run = self.begin(inputs, _thread_name())
        with self._changed:
            self._changed.wait_for(lambda: not self._hangs_now(run))
        time.sleep(self.run_time_of(run.rows))
        return self.end(run)

    # A virtual engine calls the three parts of a run.

    def begin(self, inputs: Arrays, thread: str) -> PredictorRun:
        """Notes that a run has begun."""
        rows = len(next(iter(inputs.values()))) if all(array.ndim for array in inputs.values()) else 1
        copies = {name: array.copy() for name, array in inputs.items()}
        with self._changed:
            run = PredictorRun(len(self._runs), copies, rows, thread)
            self._runs.append(run)
            self._changed.notify_all()
        return run

    def hangs(self, run: PredictorRun) -> bool:
        """Tells whether the run has to hang now."""
        with self._changed:
            return self._hangs_now(run)

    def run_time_of(self, rows: int) -> float:
        """Returns how many seconds a run of this size takes."""
        seconds = self._run_time_s(rows) if callable(self._run_time_s) else self._run_time_s
        if not 0 <= seconds < float("inf"):
            raise ConfigError(
                f"run_time_s must be a number of seconds >= 0, not {shown(seconds)} for {rows} rows"
            )
        return seconds

    def end(self, run: PredictorRun) -> Any:
        """Returns the outputs, or raises the error."""
        try:
            if run.number in self._fail_calls:
                raise self._error(f"the fake predictor fails in call {run.number}")
            for row in _rows(run.inputs):
                if self._fails(row):
                    raise self._error(f"the fake predictor fails on a row of {_first_number(row):g}")
            return self._compute({name: array.copy() for name, array in run.inputs.items()})
        except BaseException as error:
            run.error = error
            raise

    def _hangs_now(self, run: PredictorRun) -> bool:
        if self._hanging != "chosen":
            return self._hanging == "all"
        return any(self._hangs(row) for row in _rows(run.inputs))

    def __repr__(self) -> str:
        return f"<FakePredictor, {len(self.runs)} runs>"


def _first_as_y(inputs: Arrays) -> Arrays:
    return {"y": next(iter(inputs.values()))}


def _rows(inputs: Arrays) -> Iterator[Arrays]:
    """Yields each row, its arrays without the batch axis."""
    if not all(array.ndim for array in inputs.values()):
        yield inputs
        return
    for place in range(len(next(iter(inputs.values())))):
        yield {name: np.asarray(array[place]) for name, array in inputs.items() if place < len(array)}


def _first_number(row: Arrays) -> float:
    first = next(iter(row.values()))
    return float(first.flat[0]) if first.size else float("nan")


def _chooser(name: str, choice: Choice) -> Callable[[Arrays], object]:
    if callable(choice):
        return choice
    if isinstance(choice, (str, bytes)) or not isinstance(choice, Collection):
        raise ConfigError(
            f"{name} must be a list of numbers, or a function of one row (name -> array), not {shown(choice)}"
        )
    numbers = frozenset(map(float, choice))
    return lambda row: bool(numbers) and _first_number(row) in numbers


def _thread_name() -> str:
    return Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().strip()
