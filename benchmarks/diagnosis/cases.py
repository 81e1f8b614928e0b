"""Defines the loads of bench_diagnosis; each is diagnosed with the defaults and after following advice."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import Callers
from benchmarks.models import MODELS, directory
from benchmarks.transport.client import Connection
from benchmarks.transport.server import served
from benchmarks.transport.variants import Binary, Json, Variant
from paddleinfer import Engine, QueueFull

Change = Mapping[str, Any]
"""A change, as in ``Advice.change``."""

# The changes that callers make; all others are options of the engine.
_OF_CALLERS = ("requests", "rows", "tensors")
# This many rows of mobilenet_v2 run in a quarter of a second, warm or not.
_WARMED = (1, 2, 4, 8)
_PAUSE_S = 0.001


@dataclass(frozen=True)
class Told:
    """A load's diagnosis, and what its callers saw."""

    diagnosis: dict[str, Any]
    outside: float
    """Rows per second, or microseconds of a request, depending on the advice's figure."""


@dataclass(frozen=True)
class Case:
    """A load, and which of the advice is followed."""

    name: str
    verdict: str
    """The verdict that its diagnosis should have."""
    load: Callable[[Change, float], Told]
    """Runs the load with a change, for so many seconds."""
    figure: str | None = None
    """The first piece of advice on this figure is followed; None: the first of all."""


def over_http(rows: int, change: Change, seconds: float) -> Told:
    """Runs one client of a server, which sends one request of the MLP after the other."""
    with contextlib.ExitStack() as closing:
        where = ["--host", "127.0.0.1", "--port", "0"]
        url = closing.enter_context(served({"mlp": directory("mlp")}, where)).http
        address = ("127.0.0.1", urllib.parse.urlsplit(url).port)
        connection = closing.enter_context(contextlib.closing(Connection(socket.AF_INET, address)))
        connection.open()
        variant: Variant = (Binary if change.get("tensors") == "binary" else Json)(connection, "mlp")
        request = variant.encode(MODELS["mlp"].feed(change.get("rows", rows))["x"])
        for _ in range(50):
            variant.trip(request)
        count, begin = 0, time.perf_counter()
        while (taken := time.perf_counter() - begin) < seconds:
            variant.trip(request)
            count += 1
        with urllib.request.urlopen(f"{url}/v2/models/mlp/diagnosis") as answer:
            return Told(json.load(answer), taken / count * 1e6)


def in_process(model: str, change: Change, seconds: float) -> Told:
    """Runs one thread that calls a warm engine with one row after the other."""
    with opened(model, change) as engine:
        call = functools.partial(engine.infer, MODELS[model].feed(change.get("rows", 1)))
        callers = Callers([call] * change.get("requests", 1))
        rate = callers.rate(seconds) * change.get("rows", 1)
        callers.close()
        return Told(engine.diagnose().as_dict(), rate)


def flooded(model: str, change: Change, seconds: float) -> Told:
    """Keeps a warm engine's queue full of single rows."""
    with opened(model, change) as engine:
        feed = MODELS[model].feed(change.get("rows", 1))
        ended, begin = 0, time.perf_counter()

        def count(_: object) -> None:
            nonlocal ended
            ended += time.perf_counter() - begin < seconds

        while time.perf_counter() - begin < seconds:
            try:
                engine.submit(feed).add_done_callback(count)
            except QueueFull:
                time.sleep(_PAUSE_S)
        told = Told(engine.diagnose().as_dict(), ended * change.get("rows", 1) / seconds)
        engine.close(drain=False)
        return told


@contextlib.contextmanager
def opened(model: str, change: Change) -> Any:
    """Opens a warm engine with its defaults and the change."""
    options = {name: value for name, value in change.items() if name not in _OF_CALLERS}
    with Engine(directory(model), **options) as engine:
        engine.warmup(MODELS[model].feed(1), batch_sizes=_WARMED if model == "mobilenet_v2" else None)
        yield engine


CASES = {
    "json": Case("MLP over HTTP, JSON, 128 rows", "communication-bound", functools.partial(over_http, 128)),
    "lone": Case(
        "mobilenet_v2 in process, one caller",
        "computation-bound",
        functools.partial(in_process, "mobilenet_v2"),
    ),
    "flood": Case("wide MLP, flooded", "queue-bound", functools.partial(flooded, "wide_mlp")),
    "queue": Case(
        "wide MLP, flooded: the queue", "queue-bound", functools.partial(flooded, "wide_mlp"), "queue_us"
    ),
}
