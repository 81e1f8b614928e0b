"""A fixed recording and a fixed diagnosis, for tests of what the server's page shows of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from paddleinfer.shim.http.app import Application

Event = dict[str, Any]

DIAGNOSIS = {
    "model": "m",
    "requests": 5120,
    "stages": [
        {
            "stage": stage,
            "group": group,
            "count": 5120,
            "mean_us": mean_us,
            "p50_us": mean_us * 0.9,
            "p99_us": mean_us * 2.5,
            "share": mean_us / 1000,
        }
        for stage, group, mean_us in (
            ("decode", "communication", 190.0),
            ("submit", "communication", 40.0),
            ("queue", "waiting", 170.0),
            ("hold", "waiting", 50.0),
            ("gather", "communication", 60.0),
            ("run", "computation", 280.0),
            ("scatter", "communication", 30.0),
            ("deliver", "communication", 80.0),
            ("encode", "communication", 100.0),
        )
    ],
    "shares": {"communication": 0.5, "waiting": 0.22, "computation": 0.28},
    "verdict": "communication-bound",
    "evidence": "Half of a request's time, 0.50 ms of 1.00 ms, goes into carrying its data.",
    "figures": {"request_us": 1000.0, "queue_us": 170.0, "rows_per_s": 3800.0, "caller_rows_per_s": 1000.0},
    "advice": [
        {
            "action": "send binary tensors instead of JSON",
            "change": {"tensors": "binary"},
            "figure": "request_us",
            "now": 1000.0,
            "predicted": 730.0,
            "gain": 1.37,
            "at_most": None,
            "sentence": "send binary tensors instead of JSON: a request takes 730 us instead of 1,000, "
            "1.4 times faster",
        },
        {
            "action": "call the engine in process",
            "change": {},
            "figure": "request_us",
            "now": 1000.0,
            "predicted": 710.0,
            "gain": 1.41,
            "at_most": None,
            "sentence": "call the engine in process: a request takes 710 us instead of 1,000, "
            "1.4 times faster",
        },
    ],
}


def recording(batches: int = 120, rows: int = 4) -> dict[str, Any]:
    """Chrome's trace events of that many runs on two instances; times in microseconds."""
    return {"traceEvents": [*_names(rows), *_events(batches, rows)], "displayTimeUnit": "ms"}


def cycles(count: int) -> dict[str, Any]:
    """So many batches of a millisecond on end, of which 1 % is gather, 98 % run and 1 % scatter."""
    pieces = (("batch", 0, 1000), ("gather", 0, 10), ("run", 10, 980), ("scatter", 990, 10))
    return {
        "traceEvents": [
            {"ph": "X", "name": name, "pid": 1, "tid": 1, "ts": number * 1000 + begin, "dur": length}
            for number in range(count)
            for name, begin, length in pieces
        ]
    }


def _names(rows: int) -> Iterator[Event]:
    yield {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": "m"}}
    for tid, name in [(n + 1, f"instance {n}") for n in (0, 1)] + [
        (n + 10, f"requests {n}") for n in range(2 * rows)
    ]:
        yield {"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": name}}


def _events(batches: int, rows: int) -> Iterator[Event]:
    chance = random.Random(7)
    free = [5e6, 5e6]

    def piece(name: str, tid: int, ts: float, end: float, **args: Any) -> Event:
        return {
            "ph": "X",
            "name": name,
            "pid": 1,
            "tid": tid,
            "ts": round(ts, 3),
            "dur": round(end - ts, 3),
            "args": args,
        }

    for number in range(batches):
        instance = number % 2
        begin = free[instance] + chance.uniform(200, 2000)
        run = begin + chance.uniform(80, 200)
        scatter = run + chance.uniform(2000, 9000)
        end = scatter + chance.uniform(60, 150)
        free[instance] = end + chance.uniform(200, 1500)
        yield piece("batch", instance + 1, begin, end, rows=rows)
        for name, since, until in (("gather", begin, run), ("run", run, scatter), ("scatter", scatter, end)):
            yield piece(name, instance + 1, since, until)
        for row in range(rows):
            tid, request = 10 + instance * rows + row, number * rows + row
            arrival, over = begin - chance.uniform(50, 200), free[instance] - 80
            yield piece("request", tid, arrival - 90, over, id=request)
            decoded = arrival - 30
            for name, since, until in (
                *(("decode", arrival - 90, decoded), ("submit", decoded, arrival), ("queue", arrival, begin)),
                *(("gather", begin, run), ("run", run, scatter), ("scatter", scatter, end)),
                *(("deliver", end, over - 40), ("encode", over - 40, over)),
            ):
                yield piece(name, tid, since, until)
            flow = {"name": "request", "cat": "flow", "id": request, "pid": 1}
            yield {**flow, "ph": "s", "tid": tid, "ts": round(arrival, 3)}
            yield {**flow, "ph": "f", "bp": "e", "tid": instance + 1, "ts": round(begin, 3)}
        for at, value in ((begin - 100, rows), (begin, 0)):
            args = {"requests": value}
            yield {"ph": "C", "name": "queued requests", "pid": 1, "tid": 0, "ts": round(at, 3), "args": args}


def standing_in(app: Application, trace: Any, diagnosis: Any, status: int = 200) -> Application:
    """The application, with these two answers whatever it has itself."""

    async def recorded(_: Request) -> Response:
        return JSONResponse(trace, status)

    async def diagnosed(_: Request) -> Response:
        return JSONResponse(diagnosis, status)

    app.router.routes[:0] = [
        Route("/v2/trace", recorded),
        Route("/v2/models/{model}/versions/{version}/diagnosis", diagnosed),
    ]
    return app
