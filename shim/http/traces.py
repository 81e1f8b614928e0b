"""Records traces of served models, one at a time, and assembles them beside the event loop."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from time import monotonic, monotonic_ns
from typing import Any, Final

import orjson

from paddleinfer.engine.engine import Engine
from paddleinfer.sentences import shown
from paddleinfer.tracing.timeline import Activity, chrome_trace

from ..protocol.errors import RequestError, bad_request
from ..service.long_work import LongWork
from ..service.served_models import ServedModel
from ..service.services import ServedService

__all__ = ["TraceRecorder", "last_trace", "seconds_of"]

# The last requests over all models. Each takes about 14 events, 5 KB while they are assembled.
_MOST_TRACED: Final = 5000
_WRITTEN_AT_ONCE: Final = 1024

_MOST_SECONDS = 60.0
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MOST_CHARACTERS = 32


def seconds_of(text: str) -> float:
    """Reads from the query how long to record; raises RequestError 400."""
    # float() alone would read 1_0 as ten, and accept digits of every script.
    is_number = len(text) <= _MOST_CHARACTERS and _NUMBER.fullmatch(text)
    seconds = float(text) if is_number else math.nan
    if not 0 < seconds <= _MOST_SECONDS:
        raise bad_request(
            f"seconds must be a number above 0 and at most {_MOST_SECONDS:g}, not {shown(text)}"
        )
    return seconds


class TraceRecorder:
    """Records one trace at a time."""

    def __init__(self, long_work: LongWork) -> None:
        self._long_work = long_work
        self._ends_at: float | None = None

    async def record(
        self,
        models: Iterable[ServedModel],
        seconds: float,
        *ends: Callable[[], Awaitable[None]],
        services: Iterable[ServedService] = (),
    ) -> bytes:
        """Records a Chrome trace of these for this many seconds, or until one of `ends` is over.

        Raises
        ------
        RequestError
            429: another trace is being recorded.
        """
        if self._ends_at is not None:
            left_s = max(1, math.ceil(self._ends_at - monotonic()))
            raise RequestError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "another trace is being recorded, and the server records one at a time",
                {"Retry-After": str(left_s)},
            )
        self._ends_at = monotonic() + seconds
        try:
            recording = _Recording(
                [model for model in models if model.engine is not None and not model.is_service],
                list(services),
            )
            try:
                await _first_of(asyncio.sleep(seconds), *(end() for end in ends))
            except BaseException:
                recording.end()
                raise
            return await self._long_work.run(None, recording.document)
        finally:
            self._ends_at = None


class _Recording:
    """Records these models from now on, until it is ended or its document is asked for."""

    def __init__(self, models: Sequence[ServedModel], services: Sequence[ServedService]) -> None:
        self._begin_ns = monotonic_ns()
        self._services = services
        self._most = max(1, _MOST_TRACED // max(1, len(models)))
        self._recording = ExitStack()
        self._traces = [
            (model, self._recording.enter_context(model.engine.trace(self._most)))
            for model in models
            if model.engine is not None
        ]

    def end(self) -> None:
        self._recording.close()

    def document(self) -> bytes:
        """Makes the document; call it on a thread that may take its time."""
        self.end()
        activities = [_activity(model, trace.activity(), self._begin_ns) for model, trace in self._traces]
        activities += [_of_service(served, self._begin_ns) for served in self._services]
        return _written(chrome_trace(*(_last_of(activity, self._most) for activity in activities)))


async def _first_of(*ends: Awaitable[None]) -> None:
    """Waits until one of them returns."""
    waits = [asyncio.ensure_future(wait) for wait in ends]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _written(document: dict[str, Any]) -> bytes:
    """Writes JSON in pieces, between which other threads may take the GIL."""
    events = document["traceEvents"]
    pieces = [
        orjson.dumps(events[begin : begin + _WRITTEN_AT_ONCE])[1:-1]
        for begin in range(0, len(events), _WRITTEN_AT_ONCE)
    ]
    rest = orjson.dumps({name: value for name, value in document.items() if name != "traceEvents"})
    return b"".join([b'{"traceEvents":[', b",".join(pieces), b"],", rest[1:]])


def last_trace(
    engines: Iterable[tuple[ServedModel, Engine]], services: Iterable[ServedService]
) -> dict[str, Any]:
    """Returns the recent requests and runs of each as a Chrome trace; the engines may be closed."""
    return chrome_trace(
        *(_activity(model, engine.recent_activity(), since_ns=0) for model, engine in engines),
        *(_of_service(served, since_ns=0) for served in services),
    )


def _of_service(served: ServedService, since_ns: int) -> Activity:
    """Its requests alone: its engines' work is on tracks of their own."""
    recent = served.service.calls.statistics.recent()
    outer = [stages for stages in recent if stages[-1][2] > since_ns]
    return Activity(f"service {served.name}", (), (), outer=outer, outer_kind="service")


def _activity(model: ServedModel, inside: Activity, since_ns: int) -> Activity:
    """Returns an engine's activity with the server's stages around it."""
    outer = [times.stages() for times in model.stage_log.since(since_ns)]
    return inside._replace(label=model.label, outer=outer)


def _last_of(activity: Activity, most: int) -> Activity:
    """Keeps only the last `most` requests and runs."""
    return activity._replace(
        requests=activity.requests[-most:],
        runs=activity.runs[-most:],
        lost_requests=activity.lost_requests + max(0, len(activity.requests) - most),
        outer=activity.outer[-most:],
    )
