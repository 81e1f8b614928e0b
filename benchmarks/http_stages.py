"""Where the microseconds of one request go on our server's loop, with 32 connections: CPU time of its thread.

The application's own functions are timed in this process; the whole is what the loop's thread used for one
request of wrk's, and the rest of it is uvicorn, httptools, uvloop and the sockets.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import uvloop

from benchmarks import harness
from benchmarks.ainfer_stages import run
from benchmarks.harness import Effort, Section, differences
from benchmarks.http_load import Ask, answer_to
from benchmarks.http_rounds import Lengths, Stage
from benchmarks.http_ways import OURS_BINARY, OURS_JSON
from benchmarks.models import directory
from paddleinfer import Engine
from paddleinfer.shim import create_app
from paddleinfer.shim.infer_request import parse_request
from paddleinfer.shim.infer_response import encode_response

TASKS = 32
PARTS = ("parse_request", "engine.ainfer", "encode_response", "the application's rest")
REST, WHOLE = "uvicorn, uvloop, sockets", "one request on the loop's thread"


def cpu_us(call: Callable[[], Any], calls: int) -> float:
    """Microseconds of this thread for one call."""
    begin = time.thread_time()
    for _ in range(calls):
        call()
    return (time.thread_time() - begin) / calls * 1e6


def driven_us(call: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """Microseconds of a loop's thread for one call, with so many tasks at once."""

    async def drive() -> float:
        count = 0
        begin, end = time.thread_time(), time.perf_counter() + seconds

        async def caller() -> None:
            nonlocal count
            while time.perf_counter() < end:
                await call()
                count += 1

        await asyncio.gather(*(caller() for _ in range(TASKS)))
        return (time.thread_time() - begin) / count * 1e6

    return run(uvloop.new_event_loop(), drive())


def request(app: Any, ask: Ask) -> Callable[[], Awaitable[None]]:
    """The application as a server calls it, without a server."""
    headers = [(name.lower().encode(), value.encode()) for name, value in ask.headers.items()]
    headers += [(b"host", b"127.0.0.1"), (b"content-length", b"%d" % len(ask.body))]
    scope = {"type": "http", "method": "POST", "path": ask.path, "root_path": "", "headers": headers}
    message = {"type": "http.request", "body": ask.body, "more_body": False}

    async def send(_: Any) -> None:
        pass

    async def once() -> None:
        given = False

        async def receive() -> Any:
            nonlocal given
            if given:
                await asyncio.Event().wait()  # the client stays
            given = True
            return message

        await app(dict(scope), receive, send)

    return once


def parts(engine: Engine, ask: Ask, effort: Effort) -> dict[str, float]:
    """Each part once."""
    headers = {name.lower().encode(): value.encode() for name, value in ask.headers.items()}
    parsed = parse_request(ask.body, headers, engine.inputs)
    results = engine.infer(parsed.inputs)
    taken = [
        cpu_us(lambda: parse_request(ask.body, headers, engine.inputs), effort.calls),
        driven_us(lambda: engine.ainfer(parsed.inputs), effort.seconds),
        cpu_us(lambda: encode_response("m", "1", parsed, results), effort.calls),
    ]
    application = driven_us(request(create_app({"m": engine}), ask), effort.seconds)
    return dict(zip(PARTS, [*taken, application - sum(taken)], strict=True))


def stages(effort: Effort) -> Section:
    """A row for each part of each form; they sum to the whole."""
    lengths = Lengths.of(effort)
    section = Section(
        f"One request on our server's loop, mlp, {TASKS} connections: CPU time",
        ["stage", "us", "unit", "share"],
    )
    stage = Stage("mlp")
    taken: dict[str, dict[str, list[float]]] = {way: {} for way in (OURS_JSON, OURS_BINARY)}
    for _ in range(effort.rounds):
        with stage.ours() as running:
            for way, rows in taken.items():
                server, ask = running[way].server, running[way].ask
                answer_to(server.url, ask)
                server.load(ask, TASKS, lengths.warm_up)
                load = server.load(ask, TASKS, lengths.seconds)
                rows.setdefault(WHOLE, []).append(load.main_thread_us)
            asks = {way: running[way].ask for way in taken}
        with Engine(directory("mlp")) as engine:
            for way, ask in asks.items():
                parts(engine, ask, Effort(1, 0.1, 100))  # warm
                for name, value in parts(engine, ask, effort).items():
                    taken[way].setdefault(name, []).append(value)
    for way, rows in taken.items():
        whole = rows.pop(WHOLE)
        application = [sum(values) for values in zip(*rows.values(), strict=True)]
        rows |= {REST: differences(whole, application), WHOLE: whole}
        for name, values in rows.items():
            share = sum(values) / sum(whole)
            section.measured(f"{way.rpartition(' ')[2]}: {name}", values, "us", f"{share:.0%}")
    return section


def main() -> None:
    """Measures and prints JSON, in a process of its own: it loads Paddle."""
    stream = harness.answers()
    json.dump(asdict(stages(Effort.of("--quick" in sys.argv))), stream)
    stream.close()


if __name__ == "__main__":
    main()
