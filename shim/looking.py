"""Traces and diagnoses of served models, over HTTP."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Iterable
from contextlib import ExitStack
from time import monotonic_ns
from typing import Any

from paddleinfer.engine import Engine
from paddleinfer.timeline import Activity, chrome_trace

from .binary_costs import binary_us
from .errors import bad_request
from .models import ServedModel

__all__ = ["diagnosis", "last_trace", "record_trace", "seconds_of"]

_MOST_SECONDS = 60.0
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def seconds_of(text: str) -> float:
    """How long to record, from the query; raises RequestError 400."""
    # float() alone would take 1_0 for ten, and figures of every script.
    seconds = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not 0 < seconds <= _MOST_SECONDS:
        raise bad_request(f"seconds must be a number above 0 and at most {_MOST_SECONDS:g}, not {text!r}")
    return seconds


async def record_trace(
    models: Iterable[ServedModel], seconds: float, *ends: Awaitable[None]
) -> dict[str, Any]:
    """What these models do in so many seconds from now on, or to the first of `ends`, as a Chrome trace."""
    begin_ns = monotonic_ns()
    waits = [asyncio.ensure_future(wait) for wait in (asyncio.sleep(seconds), *ends)]
    try:
        with ExitStack() as recording:
            traces = [
                (model, recording.enter_context(model.engine.trace()))
                for model in models
                if model.engine is not None
            ]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    # From here on the loop waits for it: 100,000 requests take about a second.
    return chrome_trace(*(_activity(model, trace.activity(), begin_ns) for model, trace in traces))


def last_trace(engines: Iterable[tuple[ServedModel, Engine]]) -> dict[str, Any]:
    """What each of these did of late, as a Chrome trace; the engines may be closed."""
    return chrome_trace(
        *(_activity(model, engine.recent_activity(), since_ns=0) for model, engine in engines)
    )


def _activity(model: ServedModel, inside: Activity, since_ns: int) -> Activity:
    """With what the server did around the engine."""
    outer = [times.stages() for times in model.stage_log.since(since_ns)]
    return inside._replace(label=model.name, outer=outer)


def diagnosis(model: ServedModel) -> dict[str, Any]:
    """What binds a model's requests, with the server's part in it."""
    engine, log = model.open_engine(), model.stage_log
    found = engine.diagnose(log.outer_us(), binary_us(log, engine.inputs))
    return {"model": model.name, **found.as_dict()}
