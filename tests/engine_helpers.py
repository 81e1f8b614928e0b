"""Engines over small Python functions, and what their tests wait for."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import paddleinfer

Arrays = dict[str, np.ndarray]

# Longer than anything here takes: reaching it is a failure, never a wait that a test relies on.
PATIENCE_S = 30.0

X = ("float32", (-1, 3))


def rows(count: int = 1, value: float = 1.0) -> np.ndarray:
    return np.full((count, 3), value, "float32")


def double(inputs: Arrays) -> Arrays:
    return {"y": inputs["x"] * 2}


def engine_of(fn: Callable[[Arrays], Any] = double, **options: Any) -> paddleinfer.Engine:
    """x of any number of rows of three -> y."""
    return paddleinfer.Engine.from_callable(fn, {"x": X}, ["y"], **options)


def echo_engine(
    dtype: str = "float32", shape: tuple[int, ...] = (-1, 3), **options: Any
) -> paddleinfer.Engine:
    """Gives its one input back as y."""
    return paddleinfer.Engine.from_callable(
        lambda inputs: {"y": inputs["x"]}, {"x": (dtype, shape)}, ["y"], **options
    )


class Gate:
    """A model whose runs wait, each until the gate is open."""

    def __init__(self) -> None:
        self.ran: list[float] = []
        """The first value of each run's input."""
        self._entered = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, inputs: Arrays) -> Arrays:
        self.ran.append(float(inputs["x"].flat[0]))
        self._entered.release()
        if not self._open.wait(PATIENCE_S):
            raise AssertionError("nobody opened the gate")
        return double(inputs)

    def open(self) -> None:
        self._open.set()

    def wait_entered(self) -> None:
        """Until one more run has begun."""
        assert self._entered.acquire(timeout=PATIENCE_S)


@contextmanager
def gated(**options: Any) -> Iterator[tuple[paddleinfer.Engine, Gate]]:
    """An engine of one instance that is busy with a first request until its gate opens."""
    gate = Gate()
    with engine_of(gate, **options) as engine:
        try:
            engine.submit({"x": rows(value=-1)})
            gate.wait_entered()
            yield engine, gate
        finally:
            gate.open()


def eventually(condition: Callable[[], object], timeout: float = 5.0) -> bool:
    """Whether it comes true; looks often, returns as soon as it does."""
    end = time.monotonic() + timeout
    pause = threading.Event()
    while not condition():
        if time.monotonic() > end:
            return False
        gc.collect()  # all of it: an earlier collection may have made what is waited for old
        pause.wait(0.002)
    return True


def run_threads(count: int, target: Callable[[int], None]) -> None:
    """Runs `target(number)` on `count` threads at once and raises the first failure."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(count)

    def guarded(number: int) -> None:
        barrier.wait()
        try:
            target(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    if failures:
        raise failures[0]
