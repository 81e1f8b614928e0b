"""Makes OpenTelemetry's spans of the calls of engines that a service makes for a request."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from opentelemetry.context import attach, detach
from opentelemetry.trace import SpanKind, get_tracer

from paddleinfer._version import __version__
from paddleinfer.explanation import InferInfo
from paddleinfer.otel.spans import RequestSpan
from paddleinfer.serve.observing import OBSERVER
from paddleinfer.stages import Stage

__all__ = ["ServiceCallSpans"]


class ServiceCallSpans:
    """Observes a request to a service: each call of an engine is a child of the request's span."""

    def __init__(self, span: RequestSpan) -> None:
        self.stages: list[Stage] | None = None
        self._context = span.context()
        self._tracer = get_tracer("paddleinfer.shim", __version__)

    @contextlib.contextmanager
    def observing(self) -> Iterator[None]:
        """Inside, services tell it of what they do, and the request's span is the current one."""
        observer, context = OBSERVER.set(self), attach(self._context)
        try:
            yield
        finally:
            detach(context)
            OBSERVER.reset(observer)

    def begin(self, engine: str) -> RequestSpan | None:
        """Begins the span of a call; returns None if the sampler does not want it."""
        attributes = {"paddleinfer.model.name": engine}
        return RequestSpan.begin(
            self._tracer, f"infer {engine}", SpanKind.INTERNAL, self._context, attributes
        )

    def end(self, call: RequestSpan, info: InferInfo) -> None:
        """Ends it with results."""
        call.explain(info)
        call.end()

    def fail(self, call: RequestSpan, error: BaseException) -> None:
        """Ends it with an error."""
        call.fail(error)
