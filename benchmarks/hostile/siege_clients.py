"""Runs the clients of bench_siege: good ones at a rate, and bad ones, each kind in a process of its own.

``python -m benchmarks.hostile.siege_clients good PORT`` answers lines of JSON: for how long, and what
(see `Helper`).
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import random
import re
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.harness import keep_awaiting
from benchmarks.models import MODELS
from tests.support.bombs import Bomb, http_bombs

MODEL = "mobilenet_v2"
_PATIENCE_S = 60.0
_CONNECTIONS = 256
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


# -- the good ones


def request(deadline_s: float) -> bytes:
    """Makes a request of one row in binary, with its deadline."""
    model = MODELS[MODEL]
    row = np.zeros((1, *model.fed), model.dtype).tobytes()
    head = json.dumps(
        {
            "parameters": {"timeout": round(deadline_s * 1e6), "binary_data_output": True},
            "inputs": [
                {
                    "name": "x",
                    "shape": [1, *model.fed],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(row)},
                }
            ],
        }
    ).encode()
    return (
        f"POST /v2/models/m/infer HTTP/1.1\r\nHost: t\r\nContent-Length: {len(head) + len(row)}\r\n"
        f"Inference-Header-Content-Length: {len(head)}\r\n\r\n"
    ).encode() + (head + row)


class Good:
    """Persistent connections, and the outcomes of their requests."""

    def __init__(self, port: int, wire: bytes) -> None:
        self._port, self._wire = port, wire
        self._idle: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.LifoQueue()
        self.ends: collections.Counter[str] = collections.Counter()
        self.answered_s: list[float] = []

    async def ask(self) -> None:
        """Sends one request, reads its whole answer, and counts the outcome."""
        if self._idle.empty():
            connection = await asyncio.open_connection("127.0.0.1", self._port)
        else:
            connection = self._idle.get_nowait()
        reader, writer = connection
        begin = time.perf_counter()
        try:
            writer.write(self._wire)
            status = await asyncio.wait_for(_status(reader), _PATIENCE_S)
        except (TimeoutError, asyncio.TimeoutError):
            self.ends["no answer"] += 1
            writer.close()
            return
        except (OSError, asyncio.IncompleteReadError):
            self.ends["connection lost"] += 1
            writer.close()
            return
        self.ends[status] += 1
        if status == "200":
            self.answered_s.append(time.perf_counter() - begin)
        self._idle.put_nowait(connection)

    async def close(self) -> None:
        """Closes all connections."""
        while not self._idle.empty():
            _, writer = self._idle.get_nowait()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def closed_loop(self, seconds: float, callers: int) -> None:
        """Runs callers that each ask again once they have an answer."""
        await keep_awaiting(self.ask, callers, seconds)

    async def at_rate(self, seconds: float, rate_per_s: float) -> None:
        """Runs independent arrivals; beyond `_CONNECTIONS` at once a request counts as not sent."""
        drawn = random.Random(1)
        under_way: set[asyncio.Task[None]] = set()
        due = begin = time.perf_counter()
        while (due := due + drawn.expovariate(rate_per_s)) < begin + seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if len(under_way) >= _CONNECTIONS:
                self.ends["not sent"] += 1
                continue
            task = asyncio.create_task(self.ask())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)


async def _status(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    length = _LENGTH.search(head)
    await reader.readexactly(int(length[1]) if length else 0)
    return head.split(b" ", 2)[1].decode()


def good(port: int, question: dict[str, float]) -> dict[str, Any]:
    """`question`: seconds, deadline_s, and callers or rate_per_s."""

    async def run() -> Good:
        clients = Good(port, request(question["deadline_s"]))
        if "callers" in question:
            await clients.closed_loop(question["seconds"], int(question["callers"]))
        else:
            await clients.at_rate(question["seconds"], question["rate_per_s"])
        await clients.close()
        return clients

    clients = asyncio.run(run())
    return {"ends": clients.ends, "answered_s": clients.answered_s}


# -- the bad ones


def _whole(connection: socket.socket, bomb: Bomb, _: random.Random) -> None:
    connection.sendall(bomb.wire)
    connection.recv(1 << 16)


def _gone_in_the_middle(connection: socket.socket, bomb: Bomb, drawn: random.Random) -> None:
    connection.sendall(bomb.wire[: drawn.randrange(1, len(bomb.wire))])


def _answer_not_read(connection: socket.socket, bomb: Bomb, _: random.Random) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(bomb.wire)
    time.sleep(0.05)


def _drip(connection: socket.socket, bomb: Bomb, _: random.Random) -> None:
    for place in range(0, 20):
        connection.sendall(bomb.wire[place : place + 1])
        time.sleep(0.01)


def _noise(connection: socket.socket, _: Bomb, drawn: random.Random) -> None:
    connection.sendall(drawn.randbytes(drawn.randrange(1, 4096)))
    connection.recv(1 << 16)


_ATTACKS: tuple[Callable[[socket.socket, Bomb, random.Random], None], ...] = (
    _whole,
    _gone_in_the_middle,
    _answer_not_read,
    _drip,
    _noise,
)


def bad(port: int, question: dict[str, float]) -> dict[str, Any]:
    """Sends bombs, whole and in part, one after the other, and reloads the model every `reload_s`."""
    from paddleinfer.shim.http.app import create_app

    end = time.monotonic() + question["seconds"]
    reload_at = time.monotonic() + question["reload_s"]
    drawn = random.Random(2)
    routes = [route for route in create_app({}).routes if not route.path.endswith("/unload")]
    bombs: list[Bomb] = list(http_bombs(routes, scale=question["scale"]))
    sent: collections.Counter[str] = collections.Counter()
    while time.monotonic() < end:
        if time.monotonic() >= reload_at:
            reload_at += question["reload_s"]
            sent[f"reload: {_reload(port)}"] += 1
        attack, bomb = drawn.choice(_ATTACKS), drawn.choice(bombs)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as connection:
            attack(connection, bomb, drawn)
        sent[attack.__name__.strip("_").replace("_", " ")] += 1
        time.sleep(question["pause_s"])
    return {"sent": sent}


def _reload(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), _PATIENCE_S) as connection:
        head = b"POST /v2/repository/models/m/load HTTP/1.1\r\nHost: t\r\nConnection: close\r\n"
        connection.sendall(head + b"Content-Length: 0\r\n\r\n")
        return connection.recv(1 << 16).split(b" ", 2)[1].decode()


if __name__ == "__main__":
    answer = {"good": good, "bad": bad}[sys.argv[1]]
    harness.serve(harness.answers(), lambda question: answer(int(sys.argv[2]), question))
