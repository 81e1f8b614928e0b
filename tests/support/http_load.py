"""Sends requests over many connections when they are due, whether or not others were answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import orjson
from http_helpers import INFER, json_tensor


@dataclass
class Ends:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    """200, with another answer than the one to that request."""
    broken: int = 0
    """No answer: the connection was closed, or could not be made."""
    latencies_s: list[float] = field(default_factory=list)
    """Of those that were answered 200."""


async def load(port: int, connections: int, rate_per_s: float, seconds: float, timeout_s: float) -> Ends:
    """Offers so many requests a second over all connections, each with so long a deadline."""
    ends = Ends()
    end = time.monotonic() + seconds
    each_s = connections / rate_per_s
    await asyncio.gather(
        *(
            _connection(port, number, each_s * number / connections, each_s, end, timeout_s, ends)
            for number in range(connections)
        )
    )
    return ends


async def _connection(
    port: int, number: int, first_s: float, each_s: float, end: float, timeout_s: float, ends: Ends
) -> None:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        ends.broken += 1
        return
    due = time.monotonic() + first_s
    value = float(number)
    try:
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += each_s
            value += 1
            sent = time.monotonic()
            writer.write(_request(value, timeout_s))
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(_length(head))
            status = int(head.split(b" ", 2)[1])
            ends.statuses[status] += 1
            if status == 200:
                ends.latencies_s.append(time.monotonic() - sent)
                ends.wrong += orjson.loads(body)["outputs"][0]["data"] != [2 * value] * 3
            if b"connection: close" in head.lower():
                return
    except (OSError, asyncio.IncompleteReadError):
        ends.broken += 1
    finally:
        writer.close()


def _request(value: float, timeout_s: float) -> bytes:
    x = np.full((1, 3), value, "float32")
    parameters = {"timeout": round(timeout_s * 1e6)}
    body = orjson.dumps({"inputs": [json_tensor("x", x)], "parameters": parameters})
    return b"POST %s HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%s" % (INFER.encode(), len(body), body)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    raise AssertionError(f"a response without a length: {head!r}")
