"""Makes engines over small Python functions, and waits for events in them."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

import paddleinfer

Arrays = dict[str, np.ndarray]

# Longer than anything here takes: reaching it is a failure, never a wait that a test relies on.
PATIENCE_S = 300.0

# For what ends by a deadline of less than a second: far longer, however busy the machine is, and shorter than
# what an engine's close waits for by itself.
SOON_S = 20.0

X = ("float32", (-1, 3))

T = TypeVar("T")


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
    """A model whose runs wait until the gate is open, or lets them through one by one."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        """The first value of each row, run by run."""
        self._entered = threading.Semaphore(0)
        self._moves = threading.Condition()
        self._is_open = False
        self._passes = 0

    @property
    def ran(self) -> list[float]:
        """The first value of each run's input."""
        return [batch[0] for batch in self.batches]

    @property
    def sizes(self) -> list[int]:
        """The rows of each run."""
        return [len(batch) for batch in self.batches]

    def __call__(self, inputs: Arrays) -> Arrays:
        self.batches.append(inputs["x"][:, 0].tolist())
        self._entered.release()
        with self._moves:
            if not self._moves.wait_for(lambda: self._is_open or self._passes > 0, PATIENCE_S):
                raise AssertionError("nobody opened the gate")
            self._passes -= not self._is_open
        return double(inputs)

    def open(self) -> None:
        with self._moves:
            self._is_open = True
            self._moves.notify_all()

    def shut(self) -> None:
        """Later runs wait; those so far are forgotten."""
        with self._moves:
            self._is_open = False
        self.batches.clear()
        while self._entered.acquire(blocking=False):
            pass

    def let_one_through(self) -> None:
        with self._moves:
            self._passes += 1
            self._moves.notify_all()

    def wait_entered(self) -> None:
        """Until one more run has begun."""
        assert self._entered.acquire(timeout=PATIENCE_S)


class Steady(Gate):
    """A gate whose runs take as long however many their rows; negative rows fail."""

    RUN_S = 0.004

    def __call__(self, inputs: Arrays) -> Arrays:
        results = super().__call__(inputs)
        time.sleep(self.RUN_S)
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        return results


@contextmanager
def gated(**options: Any) -> Iterator[tuple[paddleinfer.Engine, Gate]]:
    """An engine of one instance that is busy with a first request until its gate opens."""
    gate = Gate()
    with engine_of(gate, **options) as engine:
        try:
            engine.submit({"x": rows(value=-1)}, timeout=PATIENCE_S)  # whatever default_timeout is
            gate.wait_entered()
            yield engine, gate
        finally:
            gate.open()


def learn_sizes(engine: paddleinfer.Engine, most: int) -> None:
    """Runs one row and `most` rows, so that the engine has seen both."""
    for size, runs in ((1, 2), (most, 4)):
        for _ in range(runs):
            engine.infer({"x": rows(size)}, timeout=PATIENCE_S)


def learn_shapes(engine: paddleinfer.Engine, given: list[np.ndarray]) -> dict[str, Any]:
    """The same for each shape of the arrays of a one-input model, until they share runs; the counters then.

    Without it a busy machine may make two rows look dearer than two runs, and nothing is merged for long. The
    first requests run alone, to compare.
    """
    for row in {x.shape[1:]: x[:1] for x in given}.values():
        for size, runs in ((1, 2), (16, 4)):
            for _ in range(runs):
                engine.infer([np.repeat(row, size, 0)])

    def share_runs() -> bool:
        for future in [engine.submit([x]) for x in given]:
            future.result(PATIENCE_S)
        return bool(engine.effective_config()["batchable"]["value"] == "yes")

    assert eventually(share_runs)
    return engine.stats()


@contextmanager
def merging(
    make: Callable[..., paddleinfer.Engine] = engine_of, *, max_batch_size: int = 8, **options: Any
) -> Iterator[tuple[paddleinfer.Engine, Steady]]:
    """An engine of one instance that merges what waits and is busy with a request until its gate opens.

    `make` makes it of the gate and options. Its policy goes by no measured time: on a busy machine a run of
    eight rows may take longer than eight others did, and nothing would be merged for long.
    """
    gate = Steady()
    gate.open()
    options = {"batchable": True, "max_batch_size": max_batch_size, "policy": "eager", **options}
    with make(gate, **options) as engine:
        learn_sizes(engine, max_batch_size)
        gate.shut()
        try:
            engine.submit({"x": rows(value=1000)}, timeout=PATIENCE_S)
            gate.wait_entered()
            gate.batches.clear()
            yield engine, gate
        finally:
            gate.open()


def assert_close(actual: Arrays, expected: Arrays) -> None:
    """Equal within the tolerance that the engine promises for float32."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape and actual[name].dtype == value.dtype
        assert np.abs(actual[name] - value).max() <= 1e-5 * np.abs(value).max(), name


def eventually(condition: Callable[[], object], timeout: float = PATIENCE_S) -> bool:
    """Whether it comes true; looks often, returns as soon as it does.

    It collects meanwhile, but not where a test has turned collections off.
    """
    left_s = timeout
    pause = threading.Event()
    while not condition():
        if left_s < 0:
            return False
        began = time.monotonic()
        if gc.isenabled():
            gc.collect()  # all of it: an earlier collection may have made what is waited for old
        # A collection holds the GIL for a tenth of a second and more; most of the time is for others.
        pause.wait(max(0.002, 4 * (time.monotonic() - began)))
        left_s -= min(1.0, time.monotonic() - began)  # no longer where the whole machine stood still
    return True


def late_while_it_runs(begin: Callable[[float], T], gate: Gate, done: Callable[[T], bool]) -> tuple[T, float]:
    """A request that stands at the gate, and whose deadline passes meanwhile; and that deadline in seconds.

    How soon a run begins is the machine's affair: where the deadline has passed before, the next is longer.
    """
    before = len(gate.batches)

    def begins(request: T) -> bool:
        assert eventually(lambda: len(gate.batches) > before or done(request))
        return len(gate.batches) > before

    timeout_s = 0.1
    while not begins(request := begin(timeout_s)):
        timeout_s *= 4
    return request, timeout_s


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
