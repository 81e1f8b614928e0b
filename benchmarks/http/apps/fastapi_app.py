"""FastAPI as one writes it oneself: a predictor under a lock, in its thread pool, or an awaited engine.

Answers are written by orjson, which is faster than FastAPI's own encoder.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import fastapi
import orjson
import uvicorn

from benchmarks.http.apps.behind import load, port
from benchmarks.http.apps.functions import answer_of, row_of

Document = dict[str, Any]


def locked() -> fastapi.FastAPI:
    """One request at a time in the model, the functions around it on any thread of the pool."""
    app, run, lock = fastapi.FastAPI(), load(), threading.Lock()

    @app.post("/predict")
    def predict(document: Document) -> fastapi.Response:
        row = row_of(document)
        with lock:
            scores = run(row)
        return written(answer_of(scores[0]))

    return app


def engine() -> fastapi.FastAPI:
    """All on the loop, but the model."""
    from paddleinfer import Engine

    app, engine = fastapi.FastAPI(), Engine(os.environ["BENCH_MODEL"])

    @app.post("/predict")
    async def predict(document: Document) -> fastapi.Response:
        (scores,) = (await engine.ainfer([row_of(document)])).values()
        return written(answer_of(scores[0]))

    return app


def written(answer: Document) -> fastapi.Response:
    """A JSON answer."""
    return fastapi.Response(orjson.dumps(answer), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(
        {"locked": locked, "engine": engine}[os.environ["BENCH_KIND"]](),
        host="127.0.0.1",
        port=port(),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
