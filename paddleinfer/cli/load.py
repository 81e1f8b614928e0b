"""The loads of ``paddleinfer bench``: callers who wait for their answers, or arrivals at a rate."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from paddleinfer.cli.arrays import Array
from paddleinfer.cli.progress import Advance
from paddleinfer.engine.engine import Engine
from paddleinfer.engine.futures import InferFuture
from paddleinfer.errors import DeadlineExceeded, PaddleInferError, QueueFull

__all__ = ["Requests", "Tally", "drive_callers", "drive_rate", "warm_up"]

_SEED = 1
# How often the progress bar moves, and Ctrl-C is heard.
_TICK_S = 0.05
_SHORTEST_RETRY_S = 0.001
_LONGEST_RETRY_S = 0.1


@dataclass(frozen=True)
class Requests:
    """What the requests of a load are, and for how long they come."""

    engine: Engine
    next_inputs: Callable[[], Mapping[str, Array]]
    """Of one request after the other, from any thread."""
    seconds: float
    timeout_s: float | None


@dataclass
class Tally:
    """What became of the requests."""

    began_s: float = field(default_factory=time.perf_counter)
    sent: int = 0
    ended_s: list[float] = field(default_factory=list)
    """Of each result: seconds from the start of the load to it."""
    latencies_ms: list[float] = field(default_factory=list)
    """Of each result: milliseconds from when its request was due to be sent."""
    refused: int = 0
    late: int = 0
    most_lag_ms: float = 0.0
    """How far the sender of arrivals at a rate fell behind at most."""

    @property
    def seconds(self) -> float:
        """From the start of the load to its last result."""
        return max(self.ended_s, default=0.0)

    def note_result(self, due_s: float, now_s: float) -> None:
        """One result, of a request that was due at that time."""
        self.ended_s.append(now_s - self.began_s)
        self.latencies_ms.append((now_s - due_s) * 1e3)

    def check_answered(self) -> None:
        """Raises PaddleInferError where nothing was."""
        if not self.latencies_ms:
            raise PaddleInferError(
                f"none of {self.sent} requests was answered ({self.refused} refused, {self.late} late); "
                "allow more time with --seconds or --deadline-ms, or ask for less"
            )

    def add(self, other: Tally) -> None:
        """The counts of one caller more."""
        self.sent += other.sent
        self.ended_s += other.ended_s
        self.latencies_ms += other.latencies_ms
        self.refused += other.refused
        self.late += other.late


def warm_up(engine: Engine, inputs: Mapping[str, Array]) -> None:
    """So that no figure is of the first runs, which make kernels and know no run times."""
    if all(spec.shape and spec.shape[0] < 0 for spec in engine.inputs):
        engine.warmup({name: array[:1] for name, array in inputs.items()})


def drive_callers(requests: Requests, callers: int, advance: Advance) -> Tally:
    """So many threads, each of which asks again as soon as it has its answer; once however short the load."""
    tally = Tally()
    end_s = tally.began_s + requests.seconds
    stop = threading.Event()
    failures: list[BaseException] = []
    own = [Tally(tally.began_s) for _ in range(callers)]

    def call(mine: Tally) -> None:
        try:
            while not stop.is_set() and ((due_s := time.perf_counter()) < end_s or mine.sent == 0):
                mine.sent += 1
                try:
                    requests.engine.infer(requests.next_inputs(), timeout=requests.timeout_s)
                    mine.note_result(due_s, time.perf_counter())
                except QueueFull as error:
                    mine.refused += 1
                    stop.wait(min(max(error.retry_after_s, _SHORTEST_RETRY_S), _LONGEST_RETRY_S))
                except DeadlineExceeded:
                    mine.late += 1
        except BaseException as error:
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=call, args=(mine,), daemon=True) for mine in own]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            stop.wait(_TICK_S)
            advance(time.perf_counter() - tally.began_s)
            if stop.is_set():
                break
    finally:
        # Also after Ctrl-C: no thread may be inside the model while the interpreter ends.
        stop.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if failures:
        raise failures[0]
    for mine in own:
        tally.add(mine)
    return tally


def drive_rate(requests: Requests, rate_per_s: float, advance: Advance) -> Tally:
    """Independent arrivals (Poisson) at a rate, whether or not earlier requests have been answered."""
    random = np.random.default_rng(_SEED)
    tally = Tally()
    changed = threading.Condition()
    failures: list[BaseException] = []
    under_way = 0

    def ended(future: InferFuture, due_s: float) -> None:
        nonlocal under_way
        now_s = time.perf_counter()
        error = future.exception()
        with changed:
            under_way -= 1
            if error is None:
                tally.note_result(due_s, now_s)
            elif isinstance(error, DeadlineExceeded):
                tally.late += 1
            elif isinstance(error, QueueFull):
                tally.refused += 1
            else:
                failures.append(error)
            changed.notify_all()

    due_s = tally.began_s
    end_s = tally.began_s + requests.seconds
    while not failures:
        due_s += random.exponential(1 / rate_per_s)
        if due_s >= end_s:
            break
        _sleep_until(due_s, tally.began_s, advance)
        now_s = time.perf_counter()
        tally.most_lag_ms = max(tally.most_lag_ms, (now_s - due_s) * 1e3)
        if now_s >= end_s and tally.sent > 0:  # no thread could send as fast as is asked for
            break
        tally.sent += 1
        try:
            future = requests.engine.submit(requests.next_inputs(), timeout=requests.timeout_s)
        except QueueFull:
            with changed:
                tally.refused += 1
            continue
        with changed:
            under_way += 1
        future.add_done_callback(functools.partial(ended, due_s=due_s))
    with changed:
        while under_way and not failures:
            changed.wait(_TICK_S)
    if failures:
        raise failures[0]
    return tally


def _sleep_until(due_s: float, began_s: float, advance: Advance) -> None:
    while (left_s := due_s - time.perf_counter()) > 0:
        time.sleep(min(left_s, _TICK_S))
        advance(time.perf_counter() - began_s)
