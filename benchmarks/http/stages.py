"""Measures where the CPU time of one request goes on our server's loop, with 32 connections.

The server's own functions are timed in this process; the whole is what the loop's thread used for a request
by wrk, and the rest of it is the parser of HTTP, uvicorn, uvloop and the sockets.
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
from benchmarks.callers.ainfer_stages import run
from benchmarks.harness import Effort, Section, differences, keep_awaiting
from benchmarks.http.load import Ask, answer_to
from benchmarks.http.rounds import Lengths, Stage
from benchmarks.http.variants import CEILING_OF, OURS_BINARY, OURS_JSON
from benchmarks.models import directory
from paddleinfer import Engine
from paddleinfer.shim.http.fast_path import FastPathRequest, fast_path_model
from paddleinfer.shim.protocol.request import parse_request
from paddleinfer.shim.protocol.response import encode_response
from paddleinfer.shim.service.models import Models
from paddleinfer.shim.service.service import Service

TASKS = 32
PARTS = ("parse_request", "engine.ainfer", "encode_response", "the fast path's rest")
REST, WHOLE = "HTTP, uvloop, sockets", "one request on the loop's thread"
BARE = "the bare application's request"


def cpu_us(call: Callable[[], Any], calls: int) -> float:
    """Returns microseconds of this thread per call."""
    begin = time.thread_time()
    for _ in range(calls):
        call()
    return (time.thread_time() - begin) / calls * 1e6


def driven_us(call: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """Returns microseconds of a loop's thread per call, with so many tasks at once."""

    async def drive() -> float:
        begin = time.thread_time()
        count = await keep_awaiting(call, TASKS, seconds)
        return (time.thread_time() - begin) / count * 1e6

    return run(uvloop.new_event_loop(), drive())


class Answered:
    """A connection without a socket, whose client sends the next request once it has the answer."""

    def __init__(self, engine: Engine, ask: Ask, seconds: float) -> None:
        self._service = Service(Models.of({"m": engine}))
        self._headers = _headers(ask)
        self._body = ask.body
        self._tasks: set[Any] = set()
        self._loop = asyncio.get_running_loop()
        self._end = time.perf_counter() + seconds
        self.over = self._loop.create_future()
        self.count = 0

    def ask(self) -> None:
        """One request."""
        model = fast_path_model(self._service, b"/v2/models/m/infer", self._headers)
        assert model is not None
        request = FastPathRequest(self, self._tasks, self._service, model, self._headers)
        request.add(self._body)
        request.run()

    def write_response(self, head: bytes, body: bytes, keep_alive: bool) -> None:
        """Drops the response, which nobody reads."""
        assert head.startswith(b"HTTP/1.1 200 OK")

    def when_sent(self, call: Callable[[], None]) -> None:
        """Calls the function at once."""
        call()

    def on_response_complete(self) -> None:
        """Sends the next request."""
        self.count += 1
        if time.perf_counter() < self._end:
            self._loop.call_soon(self.ask)
        else:
            self.over.set_result(None)


def direct_us(engine: Engine, ask: Ask, seconds: float) -> float:
    """Returns microseconds of a loop's thread per request on the fast path, with so many at once."""

    async def drive() -> float:
        begin = time.thread_time()
        connections = [Answered(engine, ask, seconds) for _ in range(TASKS)]
        for connection in connections:
            connection.ask()
        await asyncio.gather(*(connection.over for connection in connections))
        return (time.thread_time() - begin) / sum(one.count for one in connections) * 1e6

    return run(uvloop.new_event_loop(), drive())


def _headers(ask: Ask) -> dict[bytes, bytes]:
    headers = {name.lower().encode(): value.encode() for name, value in ask.headers.items()}
    return {b"host": b"127.0.0.1", b"content-length": b"%d" % len(ask.body), **headers}


def parts(engine: Engine, ask: Ask, effort: Effort) -> dict[str, float]:
    """Measures each part once."""
    headers = _headers(ask)
    parsed = parse_request(ask.body, headers, engine.inputs)
    results = engine.infer(parsed.inputs)
    taken = [
        cpu_us(lambda: parse_request(ask.body, headers, engine.inputs), effort.calls),
        driven_us(lambda: engine.ainfer(parsed.inputs), effort.seconds),
        cpu_us(lambda: encode_response("m", "1", parsed, results), effort.calls),
    ]
    direct = direct_us(engine, ask, effort.seconds)
    return dict(zip(PARTS, [*taken, direct - sum(taken)], strict=True))


def stages(effort: Effort) -> Section:
    """Makes a row for each part of each form; they add up to the whole."""
    lengths = Lengths.of(effort)
    section = Section(
        f"One request on our server's loop, mlp, {TASKS} connections: CPU time",
        ["stage", "us", "unit", "share"],
    )
    stage = Stage("mlp")
    taken: dict[str, dict[str, list[float]]] = {variant: {} for variant in (OURS_JSON, OURS_BINARY)}
    for _ in range(effort.rounds):
        with stage.ours() as running:
            for variant, rows in taken.items():
                server, ask = running[variant].server, stage.asks[variant]
                answer_to(server.url, ask)
                server.load(ask, TASKS, lengths.warm_up)
                load = server.load(ask, TASKS, lengths.seconds)
                rows.setdefault(WHOLE, []).append(load.main_thread_us)
                bare = running[CEILING_OF[variant]]
                load = bare.server.load(bare.ask, TASKS, lengths.seconds)
                rows.setdefault(BARE, []).append(load.main_thread_us)
        with Engine(directory("mlp")) as engine:
            for variant, ask in stage.asks.items():
                parts(engine, ask, Effort(1, 0.1, 100))  # warm
                for name, value in parts(engine, ask, effort).items():
                    taken[variant].setdefault(name, []).append(value)
    for variant, rows in taken.items():
        whole, bare_us = rows.pop(WHOLE), rows.pop(BARE)
        own = [sum(values) for values in zip(*rows.values(), strict=True)]
        rows |= {REST: differences(whole, own), WHOLE: whole, BARE: bare_us}
        for name, values in rows.items():
            share = sum(values) / sum(whole)
            section.measured(f"{variant.rpartition(' ')[2]}: {name}", values, "us", f"{share:.0%}")
    return section


def main() -> None:
    """Measures and prints JSON, in a process of its own: it loads Paddle."""
    stream = harness.answers()
    json.dump(asdict(stages(Effort.of("--quick" in sys.argv))), stream)
    stream.close()


if __name__ == "__main__":
    main()
