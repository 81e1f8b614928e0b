"""Starlette as one writes it oneself: one predictor under a lock, or the batcher of forty lines."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.callers.baseline_batchers import Batcher
from benchmarks.http.apps.behind import Rows, load, port

Answer = Callable[[Rows], Awaitable[Rows]]


def locked() -> Answer:
    """One row at a time, on a thread of Starlette's pool."""
    run, lock = load(), threading.Lock()

    def one(row: Rows) -> Rows:
        with lock:
            return run(row)

    return lambda row: run_in_threadpool(one, row)


def batcher() -> Answer:
    """All rows that wait, on the batcher's thread."""
    run = load()
    batcher = Batcher(lambda feeds: {"y": run(feeds["x"])})

    async def answer(row: Rows) -> Rows:
        results = await asyncio.wrap_future(batcher.submit({"x": row}))
        return results["y"]

    return answer


def application(answer: Answer) -> Starlette:
    """``{"x": row}`` -> ``{"y": row}``."""

    async def predict(request: Request) -> Response:
        row = np.array([orjson.loads(await request.body())["x"]], np.float32)
        result = await answer(row)
        body = orjson.dumps({"y": result[0]}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(body, media_type="application/json")

    return Starlette(routes=[Route("/predict", predict, methods=["POST"])])


if __name__ == "__main__":
    answers: dict[str, Callable[[], Any]] = {"locked": locked, "batcher": batcher}
    uvicorn.run(
        application(answers[os.environ["BENCH_KIND"]]()),
        host="127.0.0.1",
        port=port(),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
