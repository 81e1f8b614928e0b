"""Measures how replicas of Ray Serve add up, and what they give of one engine on as many cores."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from benchmarks import harness
from benchmarks.harness import Section, interleave, ratios
from benchmarks.models import MODELS, directory

__all__ = ["REPLICATED", "of_replicas"]

REPLICATED = ("ppocr_det", "ppocr_rec")
"""A row of the first takes many times what Serve's call does, and callers and Serve have the same cores."""
CALLERS = 8
CORES = 2
ONE, TWO, TOGETHER = "1 replica, 1 instance", "2 replicas, 1 instance each", "1 replica, 2 instances"
ENGINE = "an engine without Ray, 2 instances"
NEAR = 0.9
"""Of what cores could give at the most."""


@contextlib.contextmanager
def _calls(model: str) -> Iterator[dict[str, Callable[[Any], Awaitable[Any]]]]:
    """Variant -> what asks it."""
    import ray
    from ray import serve
    from ray.serve.schema import LoggingConfig

    import paddleinfer.ray

    path = str(directory(model))
    ray.init("local", num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        calls: dict[str, Callable[[Any], Awaitable[Any]]] = {}
        for number, (name, replicas, instances) in enumerate(((ONE, 1, 1), (TWO, 2, 1), (TOGETHER, 1, 2))):
            deployment = paddleinfer.ray.deployment(
                path, name=model, instances=instances, cpu_threads=1
            ).options(
                num_replicas=replicas,
                ray_actor_options={"num_cpus": 0.3},  # all of them find room; one variant at a time has work
                logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
            )
            calls[name] = serve.run(
                deployment.bind(), name=f"app{number}", route_prefix=f"/app{number}"
            ).remote
        with paddleinfer.Engine(path, instances=2, cpu_threads=1) as engine:
            calls[ENGINE] = engine.ainfer
            yield calls
    finally:
        serve.shutdown()
        ray.shutdown()


def of_replicas(model: str, effort: harness.Effort) -> Section:
    """Requests a second of callers in one event loop."""
    row = MODELS[model].feed(1)
    section = Section(
        f"{model} by handle, {CALLERS} tasks of one row each, {CORES} cores: "
        f"{effort.rounds} rounds of {effort.seconds:g} s that alternate",
        ["variant", "requests/s", f"of {ONE}"],
    )
    with _calls(model) as calls, contextlib.closing(asyncio.new_event_loop()) as loop:

        async def asked(call: Callable[[Any], Awaitable[Any]]) -> float:
            begin = time.perf_counter()
            count = await harness.keep_awaiting(partial(call, row), CALLERS, effort.seconds)
            return count / (time.perf_counter() - begin)

        def rate(name: str) -> float:
            return loop.run_until_complete(asked(calls[name]))

        for name in calls:  # a shape's first runs take longer
            rate(name)
        rates = interleave({name: partial(rate, name) for name in calls}, effort.rounds)

    def share(name: str, of: str) -> float:
        return statistics.median(ratios(rates[name], rates[of]))

    for name, values in rates.items():
        section.measured(name, values, f"{share(name, ONE):.2f}")
    section.verdict(f"{TWO}, of {ONE}", share(TWO, ONE), at_least=NEAR * CORES)
    section.verdict(f"{TWO}, of {ENGINE}", share(TWO, ENGINE), at_least=NEAR)
    return section
