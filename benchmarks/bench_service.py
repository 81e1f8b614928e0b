"""What a service costs over its engine: by call and by acall, with plain and with async functions.

``python -m benchmarks.bench_service [--quick] [--json FILE]``
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import Callers, Effort, Section, differences, interleave, p50_us, ratios, spread
from benchmarks.models import MODELS, directory
from paddleinfer import Engine
from paddleinfer.serve import Request, Service

MODEL = "mlp"
CALLERS = 32
TASKS = 32
# Beside the user's functions.
MOST_OVERHEAD_US = 60.0

ENGINE = "the engine, functions around it"
PLAIN = "a service of plain functions"
ASYNC = "a service of async functions"
PIPELINE = "a service with handle"

_ROW = np.ones((1, *MODELS[MODEL].fed), np.float32)


def preprocess(request: Request) -> Any:
    """As little as there can be."""
    return [request.value]


def postprocess(results: Any, request: Request) -> Any:
    """As little as there can be."""
    return next(iter(results.values()))


async def apreprocess(request: Request) -> Any:
    """The same."""
    return [request.value]


async def apostprocess(results: Any, request: Request) -> Any:
    """The same."""
    return next(iter(results.values()))


def handle(request: Request, engines: Any) -> Any:
    """A pipeline of one engine."""
    return next(iter(engines.mlp.infer([request.value]).values()))


async def ahandle(request: Request, engines: Any) -> Any:
    """The same."""
    return next(iter((await engines.mlp.ainfer([request.value])).values()))


@contextlib.contextmanager
def services(engine: Engine) -> Iterator[dict[str, Service]]:
    """Variant -> the service."""
    with (
        Service(engine, preprocess=preprocess, postprocess=postprocess) as plain,
        Service(engine, preprocess=apreprocess, postprocess=apostprocess) as in_coroutines,
        Service({MODEL: engine}, handle=handle) as pipeline,
    ):
        yield {PLAIN: plain, ASYNC: in_coroutines, PIPELINE: pipeline}


def by_hand(engine: Engine) -> Any:
    """What the service does, without one."""
    request = Request(_ROW)
    return postprocess(engine.infer(preprocess(request)), request)


async def by_hand_on_loop(engine: Engine) -> Any:
    """The same, awaited."""
    request = Request(_ROW)
    return postprocess(await engine.ainfer(preprocess(request)), request)


def in_threads(effort: Effort) -> dict[str, Section]:
    """One caller, and many, by `call`."""
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(Engine(directory(MODEL), batchable=True, onednn=False))
        made = stack.enter_context(services(engine))
        ways: dict[str, Callable[[], Any]] = {
            ENGINE: functools.partial(by_hand, engine),
            **{name: functools.partial(made[name].call, _ROW) for name in (PLAIN, PIPELINE)},
        }
        for call in ways.values():
            harness.check_equal({"answer": call()}, [by_hand(engine)])
            p50_us(call, effort.calls // 10)
        alone = interleave(
            {name: functools.partial(p50_us, call, effort.calls) for name, call in ways.items()},
            effort.rounds,
        )
        callers = {name: Callers([call] * CALLERS) for name, call in ways.items()}
        for one in callers.values():
            stack.callback(one.close)
        rates = interleave(
            {name: functools.partial(one.rate, effort.seconds) for name, one in callers.items()},
            effort.rounds,
        )
    lone = _latencies(f"{MODEL}, one call at a time", alone)
    over_us = statistics.median(differences(alone[PLAIN], alone[ENGINE]))
    lone.verdict("microseconds of call() over the engine's infer()", over_us, at_most=MOST_OVERHEAD_US)
    return {"call": lone, "callers": _rates(f"{MODEL}, {CALLERS} threads", rates)}


def on_loop(effort: Effort) -> dict[str, Section]:
    """One task, and many, by `acall`."""
    with Engine(directory(MODEL), batchable=True, onednn=False) as engine, services(engine) as made:
        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            ENGINE: functools.partial(by_hand_on_loop, engine),
            **{name: functools.partial(one.acall, _ROW) for name, one in made.items()},
        }
        loop = asyncio.new_event_loop()
        try:
            alone = interleave(
                {
                    name: lambda ask=ask: loop.run_until_complete(_lone_us(ask, effort.calls))  # type: ignore[misc]
                    for name, ask in ways.items()
                },
                effort.rounds,
            )
            rates = interleave(
                {
                    name: lambda ask=ask: loop.run_until_complete(_rate(ask, effort.seconds))  # type: ignore[misc]
                    for name, ask in ways.items()
                },
                effort.rounds,
            )
        finally:
            loop.close()
    lone = _latencies(f"{MODEL}, one acall at a time", alone)
    for name in (ASYNC, PLAIN):
        over_us = statistics.median(differences(alone[name], alone[ENGINE]))
        what = f"microseconds of acall() over the engine's ainfer(), {name}"
        lone.verdict(what, over_us, at_most=MOST_OVERHEAD_US)
    crowd = _rates(f"{MODEL}, {TASKS} tasks", rates)
    for name in (ASYNC, PLAIN):
        # What a request takes of the one thread that the loop has, and the pool's beside it.
        cost_us = [
            1e6 / of_service - 1e6 / of_engine
            for of_service, of_engine in zip(rates[name], rates[ENGINE], strict=True)
        ]
        what = f"microseconds a request more, of {TASKS} tasks, {name}"
        crowd.verdict(what, statistics.median(cost_us), at_most=MOST_OVERHEAD_US)
    return {"acall": lone, "tasks": crowd}


async def _lone_us(ask: Callable[[], Awaitable[Any]], calls: int) -> float:
    clock, taken = time.perf_counter_ns, []
    for _ in range(calls):
        begin = clock()
        await ask()
        taken.append(clock() - begin)
    return statistics.median(taken) / 1e3


async def _rate(ask: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """Answers per second of many tasks in a closed loop."""
    begin = time.perf_counter()
    end = begin + seconds

    async def caller() -> int:
        count = 0
        while time.perf_counter() < end:
            await ask()
            count += 1
        return count

    done = sum(await asyncio.gather(*(caller() for _ in range(TASKS))))
    return done / (time.perf_counter() - begin)


def _latencies(title: str, taken: Mapping[str, list[float]]) -> Section:
    section = Section(title, ["way", "p50", "unit", "more than the engine"])
    for name, values in taken.items():
        section.measured(name, values, "us", spread(differences(values, taken[ENGINE])))
    return section


def _rates(title: str, rates: Mapping[str, list[float]]) -> Section:
    section = Section(title, ["way", "requests/s", "unit", "of the engine's"])
    for name, values in rates.items():
        section.measured(name, values, "1/s", spread(ratios(values, rates[ENGINE])))
    return section


def main() -> None:
    """See the module."""
    options = harness.options_of(__doc__)
    effort = Effort.of(options.quick)
    sections = {**in_threads(effort), **on_loop(effort)}
    for section in sections.values():
        harness.show(section)
    if options.json:
        harness.write_json(options.json, sections, vars(effort))


if __name__ == "__main__":
    main()
