"""Compares engines in Ray with Paddle's predictor there: in replicas of Ray Serve, and in actors of Ray Data.

By handle and over HTTP each variant has one replica with one CPU, and callers of one row each that ask again
once they have their answer. The baseline is ``@serve.batch`` around Paddle's predictor, once as Serve comes
(five requests at a time) and once with as many requests at a time as ours. For Ray Data it is a class for
``map_batches`` that runs each batch at once. Rates of Ray Data are of the time between the begin of the first
call and the end of the last: how long actors take to start is left out. Last, replicas are compared with
fewer and with an engine without Ray, on the same cores.

``python -m benchmarks.bench_ray [--quick] [--json FILE]``, in the environment of ``make bench-ray``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import Section, interleave, ratios
from benchmarks.models import MODELS, directory
from benchmarks.ray_replicas import REPLICATED, of_replicas

WANTED = {"mlp": 3.0, "wide_mlp": 1.3}
MAX_ROWS = 32
WAIT_S = 0.002
CALLERS = 64
CONNECTIONS = 32
DATA_ROWS = {"mlp": 200_000, "wide_mlp": 12_000}
QUICK_SHARE = 4

_PARTS = ("serve", "data", "replicas")

OURS, TOGETHER = "ours", "ours, CoalescingHandle"
LARGE = "ours, max_batch_size=1024"
AS_IT_COMES, AS_MANY = "@serve.batch, as Serve comes", "@serve.batch, as many requests"


def batched(path: str) -> type:
    """The class of the baseline."""
    from ray import serve
    from starlette.requests import Request

    class Batched:  # within a function, so that Ray sends it as it is
        def __init__(self) -> None:
            from benchmarks.baselines import Bare

            self._run = Bare(Path(path))

        @serve.batch(max_batch_size=MAX_ROWS, batch_wait_timeout_s=WAIT_S)  # type: ignore[untyped-decorator]
        async def together(self, rows: list[Any]) -> list[Any]:
            (y,) = self._run({"x": np.concatenate(rows)}).values()
            return [y[number : number + 1] for number in range(len(rows))]

        async def __call__(self, request: Any) -> Any:
            if not isinstance(request, Request):
                return {"y": await self.together(request["x"])}
            row = np.array(json.loads(await request.body())["x"], np.float32)
            return {"y": (await self.together(row)).tolist()}

    return Batched


@contextlib.contextmanager
def replicas(model: str) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Variant -> its handle, and the URL of its application."""
    import ray
    from ray import serve
    from ray.serve.schema import LoggingConfig

    import paddleinfer.ray

    path = str(directory(model))
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        quiet = LoggingConfig(enable_access_log=False, log_level="WARNING")
        # A third of a CPU each is reserved, so that all of them find room; one at a time has something to do.
        actor = {"num_cpus": 0.3}
        ours = paddleinfer.ray.deployment(path, name=model, instances=1).options(
            ray_actor_options=actor, logging_config=quiet
        )
        made = {
            OURS: ours.bind(),
            AS_IT_COMES: serve.deployment(name=model, ray_actor_options=actor, logging_config=quiet)(
                batched(path)
            ).bind(),
            AS_MANY: serve.deployment(
                name=model,
                ray_actor_options=actor,
                logging_config=quiet,
                max_ongoing_requests=ours.max_ongoing_requests,
            )(batched(path)).bind(),
        }
        handles = {
            name: serve.run(app, name=f"app{number}", route_prefix=f"/app{number}")
            for number, (name, app) in enumerate(made.items())
        }
        urls = {name: f"http://127.0.0.1:8000/app{number}" for number, name in enumerate(made)}
        yield handles, urls
    finally:
        serve.shutdown()
        ray.shutdown()


def by_handle(model: str, handles: dict[str, Any], effort: harness.Effort) -> Section:
    """Requests a second of callers in one event loop."""
    from paddleinfer.ray import CoalescingHandle

    row = MODELS[model].feed(1)
    answers = {name: handle.remote(row).result() for name, handle in handles.items()}
    for answer in answers.values():
        harness.check_equal(answer, answers[AS_MANY])
    section = Section(
        f"{model} by handle, {CALLERS} tasks of one row each: "
        f"{effort.rounds} rounds of {effort.seconds:g} s that alternate",
        ["variant", "requests/s", "of @serve.batch with as many requests"],
    )
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        together = CoalescingHandle(handles[OURS])
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            name: partial(handle.remote, row) for name, handle in handles.items()
        }
        calls[TOGETHER] = partial(together.ainfer, row)
        rates = interleave(
            {name: partial(_rate, loop, call, CALLERS, effort.seconds) for name, call in calls.items()},
            effort.rounds,
        )
    _compare(section, rates)
    for name in (OURS, TOGETHER):
        for baseline in (AS_IT_COMES, AS_MANY):
            ratio = statistics.median(ratios(rates[name], rates[baseline]))
            section.verdict(f"{name}, of {baseline}", ratio, at_least=WANTED[model])
    return section


def over_http(model: str, urls: dict[str, str], effort: harness.Effort) -> Section:
    """The same over HTTP, in JSON."""
    import aiohttp

    (row,) = MODELS[model].feed(1).values()
    given = {"name": "x", "shape": list(row.shape), "datatype": "FP32", "data": row.ravel().tolist()}
    bodies = {name: json.dumps({"x": row.tolist()}) for name in urls}
    bodies[OURS] = json.dumps({"inputs": [given]})
    paths = {**urls, OURS: f"{urls[OURS]}/v2/models/{model}/infer"}
    section = Section(
        f"{model} over HTTP through Serve's proxy, JSON, {CONNECTIONS} connections of one row each: "
        f"{effort.rounds} rounds of {effort.seconds:g} s that alternate",
        ["variant", "requests/s", "of @serve.batch with as many requests"],
    )

    async def rate(name: str) -> float:
        async with aiohttp.ClientSession() as session:

            async def call() -> None:
                async with session.post(paths[name], data=bodies[name]) as answer:
                    if answer.status != 200:
                        raise SystemExit(f"{name} answered {answer.status}: {await answer.text()}")
                    await answer.read()

            return await _awaited_rate(call, CONNECTIONS, effort.seconds)

    with contextlib.closing(asyncio.new_event_loop()) as loop:

        def measured(name: str) -> float:
            return loop.run_until_complete(rate(name))

        for name in paths:
            measured(name)
        rates = interleave({name: partial(measured, name) for name in paths}, effort.rounds)
    _compare(section, rates)
    ratio = statistics.median(ratios(rates[OURS], rates[AS_MANY]))
    section.verdict(f"{OURS}, of {AS_MANY}", ratio, at_least=1.0)
    return section


def _rate(
    loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[Any]], tasks: int, seconds: float
) -> float:
    return loop.run_until_complete(_awaited_rate(call, tasks, seconds))


async def _awaited_rate(call: Callable[[], Awaitable[Any]], tasks: int, seconds: float) -> float:
    begin = time.perf_counter()
    count = await harness.keep_awaiting(call, tasks, seconds)
    return count / (time.perf_counter() - begin)


def _compare(section: Section, rates: dict[str, list[float]]) -> None:
    for name, values in rates.items():
        share = statistics.median(ratios(values, rates[AS_MANY]))
        section.measured(name, values, f"{share:.2f}")


def of_data(model: str, rounds: int, rows: int) -> Section:
    """Rows a second of Ray Data with one actor of one CPU."""
    import ray
    from ray.data import ActorPoolStrategy

    from paddleinfer.ray import Scorer

    class TimedScorer(Scorer):  # within a function, so that Ray sends it as it is
        def __call__(self, batch: Any) -> Any:
            return _timed(super().__call__, batch)

    class Plain:
        def __init__(self, path: str) -> None:
            from benchmarks.baselines import Bare

            self._run = Bare(Path(path))

        def __call__(self, batch: Any) -> Any:
            def run(batch: Any) -> dict[str, Any]:
                (y,) = self._run({"x": batch["x"]}).values()
                return {**batch, "y": y}

            return _timed(run, batch)

    def _timed(run: Callable[[Any], dict[str, Any]], batch: Any) -> dict[str, Any]:
        began = time.time()
        scored = run(batch)
        count = len(batch["x"])
        return {"began": np.full(count, began), "ended": np.full(count, time.time())} | scored

    path = str(directory(model))
    ours = Scorer.arguments(path, instances=1)
    plain = {"fn_constructor_args": (path,), "batch_format": "numpy", "num_cpus": 1}
    variants: dict[str, tuple[Any, dict[str, Any]]] = {
        OURS: (TimedScorer, ours),
        LARGE: (TimedScorer, Scorer.arguments(path, instances=1, max_batch_size=1024, batch_size=4096)),
        **{
            f"plain, {size} rows a batch": (
                Plain,
                {**plain, "batch_size": size, "compute": ActorPoolStrategy(size=1)},
            )
            for size in (MAX_ROWS, 1024)
        },
    }
    section = Section(
        f"{model} by Ray Data, {rows:,} rows, one actor: {rounds} rounds that alternate",
        ["variant", "rows/s", "of ours"],
    )
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        x = MODELS[model].feed(rows)["x"]
        data = ray.data.from_numpy(np.array_split(x, max(2, rows // 4096))).rename_columns({"data": "x"})
        data = data.materialize()

        def rate(name: str) -> float:
            made, arguments = variants[name]
            scored = data.map_batches(made, **arguments).materialize()
            return rows / float(scored.max("ended") - scored.min("began"))

        rates = interleave({name: partial(rate, name) for name in variants}, rounds)
    finally:
        ray.shutdown()
    for name, values in rates.items():
        section.measured(name, values, f"{statistics.median(ratios(values, rates[OURS])):.2f}")
    return section


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short and noisy: to see that all of it runs")
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--models", nargs="+", choices=tuple(WANTED), default=tuple(WANTED))
    parser.add_argument("--rounds", type=int, help="how often each variant is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    options = parser.parse_args()
    effort = harness.Effort(3, 1.0, 0) if options.quick else harness.Effort(9, 3.0, 0)
    if options.rounds is not None:
        effort = harness.Effort(options.rounds, effort.seconds, effort.calls)
    sections: dict[str, Section] = {}
    for model in options.models:
        if "serve" in options.only:
            with replicas(model) as (handles, urls):
                sections[f"handle-{model}"] = by_handle(model, handles, effort)
                harness.show(sections[f"handle-{model}"])
                sections[f"http-{model}"] = over_http(model, urls, effort)
                harness.show(sections[f"http-{model}"])
        if "data" in options.only:
            rows = DATA_ROWS[model] // (QUICK_SHARE if options.quick else 1)
            sections[f"data-{model}"] = of_data(model, effort.rounds, rows)
            harness.show(sections[f"data-{model}"])
    if "replicas" in options.only:
        for model in REPLICATED:
            sections[f"replicas-{model}"] = of_replicas(model, effort)
            harness.show(sections[f"replicas-{model}"])
    if options.json:
        harness.write_json(options.json, sections, {"rounds": effort.rounds, "seconds": effort.seconds})


if __name__ == "__main__":
    main()
