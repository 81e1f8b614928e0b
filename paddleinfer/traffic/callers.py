"""Runs a closed loop: callers, in threads or tasks, that ask again as soon as they have their answer."""

from __future__ import annotations

import asyncio
import itertools
import math
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from paddleinfer.errors import DeadlineExceeded, QueueFull
from paddleinfer.traffic.tally import TICK_S, Tally, Tick, no_tick

__all__ = ["Callers", "call_from_tasks", "call_from_threads"]

_SHORTEST_RETRY_S = 0.001
_LONGEST_RETRY_S = 0.1


@dataclass(frozen=True)
class Callers:
    """The number of callers, and until when they ask."""

    count: int
    seconds: float
    fewest: int
    """The least number of requests by all of them together, however short the time is."""


def call_from_threads(
    callers: Callers,
    ask: Callable[[int], object],
    *,
    first: Callable[[], object] = lambda: None,
    begin: Callable[[], object] = lambda: None,
    tick: Tick = no_tick,
) -> Tally:
    """Drives the load from as many threads.

    Parameters
    ----------
    callers
        How many there are, and until when they ask.
    ask
        It makes one request and waits for its answer; the number counts the requests of all callers from 0.
        QueueFull and DeadlineExceeded are counted; any other error ends the load and is raised.
    first
        It is called once by every caller before the clock starts.
    begin
        It is called once, when the clock starts.
    tick
        It is told how far the load is.
    """
    load = _Load(callers, begin, tick)
    failures: list[BaseException] = []
    ready = threading.Barrier(callers.count + 1, action=load.start)

    def call(mine: Tally) -> None:
        try:
            first()
            ready.wait()
            while (number := load.take()) is not None:
                due_s = time.perf_counter()
                mine.sent += 1
                try:
                    ask(number)
                    mine.note_result(due_s, time.perf_counter())
                except QueueFull as error:
                    mine.refused += 1
                    load.over.wait(_pause_s(error))
                except DeadlineExceeded:
                    mine.late += 1
        except threading.BrokenBarrierError:  # another caller's failure, or Ctrl-C
            return
        except BaseException as error:
            failures.append(error)
            load.over.set()
            ready.abort()

    threads = [threading.Thread(target=call, args=(mine,), daemon=True) for mine in load.tallies]
    try:
        for thread in threads:
            thread.start()
        ready.wait()
        for thread in threads:
            while thread.is_alive():
                thread.join(TICK_S)
                load.tell()
    except threading.BrokenBarrierError:
        assert failures
    finally:
        # This also happens after Ctrl-C: no thread may be inside the model while the interpreter ends.
        load.over.set()
        ready.abort()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    if failures:
        raise failures[0]
    return load.total()


def call_from_tasks(
    callers: Callers,
    ask: Callable[[int], Awaitable[object]],
    *,
    first: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0),
    begin: Callable[[], object] = lambda: None,
    tick: Tick = no_tick,
) -> Tally:
    """Drives the load from as many tasks on one event loop, asyncio's own."""
    load = _Load(callers, begin, tick)
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler

    async def call(mine: Tally) -> None:
        while (number := load.take()) is not None:
            due_s = time.perf_counter()
            mine.sent += 1
            try:
                await ask(number)
                mine.note_result(due_s, time.perf_counter())
            except QueueFull as error:
                mine.refused += 1
                await asyncio.sleep(_pause_s(error))
            except DeadlineExceeded:
                mine.late += 1

    async def tell() -> None:
        while True:
            await asyncio.sleep(TICK_S)
            load.tell()

    async def all_of_them() -> None:
        this = asyncio.current_task()
        if interruptible and this is not None:
            # Otherwise Ctrl-C would interrupt the loop anywhere, and Python 3.10 would show where.
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, this.cancel)
        await asyncio.gather(*(first() for _ in load.tallies))
        telling = asyncio.create_task(tell())
        load.start()
        await asyncio.gather(*(call(mine) for mine in load.tallies))
        telling.cancel()

    try:
        asyncio.run(all_of_them())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    return load.total()


class _Load:
    """A load under way. The callers share it, and each has a tally of its own."""

    def __init__(self, callers: Callers, begin: Callable[[], object], tick: Tick) -> None:
        self._callers = callers
        self._begin = begin
        self._tick = tick
        self._numbers = itertools.count()
        self._began_s = self._ends_s = math.inf
        self.tallies = [Tally() for _ in range(callers.count)]
        self.over = threading.Event()

    def start(self) -> None:
        """Starts the clock."""
        self._begin()
        self._began_s = time.perf_counter()
        self._ends_s = self._began_s + self._callers.seconds
        for tally in self.tallies:
            tally.began_s = self._began_s

    def take(self) -> int | None:
        """Returns the number of the next request; None if there is no other."""
        number = next(self._numbers)
        if self.over.is_set() or (number >= self._callers.fewest and time.perf_counter() >= self._ends_s):
            return None
        return number

    def tell(self) -> None:
        """Tells how far the load is."""
        self._tick(time.perf_counter() - self._began_s, sum(len(mine.ended_s) for mine in self.tallies))

    def total(self) -> Tally:
        """Returns the tally of all callers."""
        total = Tally(self._began_s)
        for tally in self.tallies:
            total.add(tally)
        return total


def _pause_s(error: QueueFull) -> float:
    return min(max(error.retry_after_s, _SHORTEST_RETRY_S), _LONGEST_RETRY_S)
