"""Services of paddleinfer-http: the functions as plain ones, and as coroutines."""

from __future__ import annotations

from typing import Any

from benchmarks.http.apps.functions import answer_of, row_of
from paddleinfer.serve import Request, Service


class Plain(Service):
    """``{"x": row}`` -> ``{"label": number, "scores": row}``."""

    def preprocess(self, request: Request) -> Any:
        """On a thread of the pool."""
        return [row_of(request.value)]

    def postprocess(self, results: Any, request: Request) -> Any:
        """As above."""
        (scores,) = results.values()
        return answer_of(scores[0])


class Coroutines(Service):
    """The same, on the event loop."""

    async def preprocess(self, request: Request) -> Any:
        """On the loop."""
        return [row_of(request.value)]

    async def postprocess(self, results: Any, request: Request) -> Any:
        """As above."""
        (scores,) = results.values()
        return answer_of(scores[0])
