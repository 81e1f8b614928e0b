"""Event loops for the tests: the stock one and uvloop."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from engine_helpers import PATIENCE_S

Run = Callable[[Coroutine[Any, Any, Any]], Any]

on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


def new_loop(run: Run) -> asyncio.AbstractEventLoop:
    """A loop of the kind that `run` runs."""
    return uvloop.new_event_loop() if run is uvloop.run else asyncio.new_event_loop()


async def turn_until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Lets the loop turn until it is true."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never came true"
        await asyncio.sleep(0.001)


def open_descriptors() -> set[tuple[str, str]]:
    """Number and target of each."""
    gc.collect()
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
        except OSError:  # the listing's own
            continue
    return found


def event_descriptors() -> int:
    """How many eventfds are open."""
    return sum("eventfd" in target for _, target in open_descriptors())
