"""Measures where the microseconds of one ``ainfer`` go on the loop's thread, with 64 tasks at saturation.

An event loop that times the engine's own callbacks drives the tasks; running the same tasks over bare futures
separates the rest.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.harness import Effort, Section, keep_awaiting
from benchmarks.models import MODELS, directory
from paddleinfer import Engine

TASKS = 64
BATCH = 32

STAGES = ("coroutine and request", "queueing", "results and delivery", "loop and tasks", "polling and idle")


class TimedLoop(asyncio.SelectorEventLoop):
    """The stock loop, which adds up the time in an engine's callbacks: its reader, and its call_soon."""

    def __init__(self) -> None:
        super().__init__()
        self.reader_s = 0.0
        self.flush_s = 0.0

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """Times the callback."""

        @functools.wraps(callback)
        def timed(*given: Any) -> None:
            begin = time.thread_time()
            callback(*given)
            self.reader_s += time.thread_time() - begin

        return super().add_reader(fd, timed, *args)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Times the callback if it is an engine's."""
        if getattr(callback, "__name__", "") != "flush":
            return super().call_soon(callback, *args, context=context)

        def timed() -> None:
            begin = time.thread_time()
            callback()
            self.flush_s += time.thread_time() - begin

        return super().call_soon(timed, context=context)


def run(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, float]) -> float:
    """Runs one coroutine on one loop."""
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


async def driven(call: Callable[[], Coroutine[Any, Any, Any]], seconds: float) -> float:
    """Returns calls per second of all tasks together."""
    begin = time.perf_counter()
    return await keep_awaiting(call, TASKS, seconds) / (time.perf_counter() - begin)


async def over_bare_futures(seconds: float) -> float:
    """Runs the same tasks, each waiting for a future that is set with 31 others in one callback."""
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[None]] = []

    def settle() -> None:
        for future in waiting[:BATCH]:
            future.set_result(None)
        del waiting[:BATCH]
        if waiting:
            loop.call_soon(settle)

    async def call() -> None:
        future = loop.create_future()
        waiting.append(future)
        if len(waiting) == 1:
            loop.call_soon(settle)
        await future

    return await driven(call, seconds)


def request_us(engine: Engine, feeds: Any) -> float:
    """Returns microseconds from a call of ``ainfer`` to its await, for calls in one turn of a loop."""

    async def measure() -> float:
        begun = [engine.ainfer(feeds) for _ in range(BATCH)]
        begin = time.perf_counter()
        futures = [coroutine.send(None) for coroutine in begun]
        taken = (time.perf_counter() - begin) / BATCH
        await asyncio.sleep(0)
        for coroutine, future in zip(begun, futures, strict=True):
            future._asyncio_future_blocking = False
            await future
            coroutine.close()
        return taken * 1e6

    return statistics.median(asyncio.run(measure()) for _ in range(50))


def stages(effort: Effort) -> Section:
    """Makes a row for each stage; they add up to the time between two answers."""
    feeds = MODELS["mlp"].feed(1)
    taken: dict[str, list[float]] = {stage: [] for stage in STAGES}
    rates = []
    with Engine(directory("mlp")) as engine:
        call = functools.partial(engine.ainfer, feeds)
        run(TimedLoop(), driven(call, effort.seconds))  # warm
        for _ in range(effort.rounds):
            loop = TimedLoop()
            begin = time.thread_time()
            rate = run(loop, driven(call, effort.seconds))
            answers = rate * effort.seconds
            busy_us = (time.thread_time() - begin) / answers * 1e6
            floor_us = 1e6 / run(asyncio.SelectorEventLoop(), over_bare_futures(effort.seconds))
            parts = [request_us(engine, feeds), loop.flush_s / answers * 1e6, loop.reader_s / answers * 1e6]
            parts.append(max(0.0, min(floor_us, busy_us - sum(parts))))
            parts.append(1e6 / rate - sum(parts))
            for stage, value in zip(STAGES, parts, strict=True):
                taken[stage].append(value)
            rates.append(rate)
    section = Section(
        f"5. One ainfer on the loop's thread, MLP, {TASKS} tasks, stock loop, at saturation",
        ["stage", "us", "unit", "share"],
    )
    whole = 1e6 / statistics.median(rates)
    for stage, values in taken.items():
        section.measured(stage, values, "us", f"{statistics.median(values) / whole:.0%}")
    section.measured("between two answers", [1e6 / rate for rate in rates], "us", "100%")
    return section
