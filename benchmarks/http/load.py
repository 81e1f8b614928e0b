"""Runs one load on one server: connections repeat one request; also measures who used the processors.

Over HTTP the client is wrk, over gRPC `grpc_load`. They count refusals; the answer itself is checked before
and after.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.harness import REPOSITORY
from benchmarks.transport.grpc import channel

Array = np.ndarray[Any, Any]

_SCRIPT = Path(__file__).resolve().parent / "wrk_post.lua"
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


@dataclass(frozen=True)
class Ask:
    """One request, and how its answer is read."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    read: Callable[[bytes, Mapping[str, str]], Array]


@dataclass(frozen=True)
class GrpcAsk:
    """One call of one message, and how the message that answers it is read."""

    path: str
    message: bytes
    read: Callable[[bytes], Array]


@dataclass(frozen=True)
class Load:
    """The results of a server under one load."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    bad: float
    """Answers of 400 and above, connections that broke or timed out; 1 where there was no answer at all."""
    cpu_us: float
    """CPU microseconds of all the server's processes per request."""
    main_thread_us: float
    """CPU microseconds per request of its first process's first thread, where an event loop runs."""
    client: float
    """Cores that the load generator used; at 1 it is the bottleneck."""
    others: float
    """The share of the machine's cores that other processes had meanwhile."""


def answer_to(url: str, ask: Ask) -> tuple[bytes, dict[str, str]]:
    """Returns one answer, body and headers. Raises OSError for any status but 200."""
    request = urllib.request.Request(url + ask.path, ask.body, dict(ask.headers), method="POST")
    with urllib.request.urlopen(request, timeout=10) as response:
        if response.status != 200:
            raise urllib.error.URLError(f"status {response.status}")
        return response.read(), {name.lower(): value for name, value in response.headers.items()}


def get(url: str) -> bytes:
    """Returns a document of a server."""
    with urllib.request.urlopen(url, timeout=10) as response:
        body: bytes = response.read()
        return body


def grpc_answer_to(port: int, ask: GrpcAsk) -> bytes:
    """Returns one answer. Raises grpc.RpcError for any status but OK."""
    with channel(f"127.0.0.1:{port}") as connection:
        answer: bytes = connection.unary_unary(ask.path)(ask.message, timeout=10)
        return answer


def load(url: str, ask: Ask, server: psutil.Process, connections: int, seconds: int) -> Load:
    """Loads the server from one thread of wrk."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("bench_http needs the load generator wrk: apt-get install wrk")
    with tempfile.NamedTemporaryFile() as body:
        body.write(ask.body)
        body.flush()
        headers = "\n".join(f"{name}: {value}" for name, value in ask.headers.items())
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=10s", "-s", str(_SCRIPT)]
        return _loaded(
            server,
            [wrk, *options, url + ask.path],
            env={**os.environ, "POST_BODY": body.name, "POST_HEADERS": headers},
        )


def grpc_load(port: int, ask: GrpcAsk, server: psutil.Process, connections: int, seconds: int) -> Load:
    """Loads the server from a process of our own client."""
    command = [sys.executable, "-m", "benchmarks.http.grpc_load", str(port), ask.path]
    return _loaded(server, [*command, str(connections), str(seconds)], input=ask.message, cwd=REPOSITORY)


def _loaded(server: psutil.Process, client: Sequence[str], **how: Any) -> Load:
    """Returns the counts of the client's last line, and who used the processors until it ended."""
    before = _used(server)
    output = subprocess.run(client, capture_output=True, check=True, **how).stdout
    used = {name: after - before[name] for name, after in _used(server).items()}
    counted = json.loads(output.splitlines()[-1])
    requests = max(1, counted["requests"])
    return Load(
        requests_per_s=counted["requests"] / counted["seconds"],
        p50_ms=counted["p50_ms"],
        p99_ms=counted["p99_ms"],
        bad=counted["refused"] + counted["broken"] + (counted["requests"] == 0),
        cpu_us=1e6 * used["server"] / requests,
        main_thread_us=1e6 * used["main thread"] / requests,
        client=used["client"] / used["wall"],
        others=max(0.0, used["busy"] - used["server"] - used["client"]) / (used["wall"] * psutil.cpu_count()),
    )


def _used(server: psutil.Process) -> dict[str, float]:
    """Returns the processor seconds used until now."""
    cores, waited_for = psutil.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    first = next(thread for thread in server.threads() if thread.id == server.pid)
    return {
        "wall": time.perf_counter(),
        "busy": sum(getattr(cores, name) for name in _BUSY),
        "client": waited_for.ru_utime + waited_for.ru_stime,
        "server": sum(map(_seconds, [server, *server.children(recursive=True)])),
        "main thread": first.user_time + first.system_time,
    }


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
