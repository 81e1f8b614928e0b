"""Fills the span of a request: how it went, its stages, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from paddleinfer.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineClosed,
    ModelError,
    PaddleInferError,
    ServiceError,
)
from paddleinfer.explanation import InferInfo
from paddleinfer.stages import Stage

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["RequestSpan", "outcome_of"]

_ATTRIBUTES = {
    field.name: f"paddleinfer.{field.name}" for field in fields(InferInfo) if field.name != "stages"
}


class RequestSpan:
    """A recorded span of one request.

    Stages are events, each at its begin. A request has six or more of them; as spans they would multiply what
    is exported and paid for, and none of them has child spans.
    """

    __slots__ = ("_epoch_ns", "_span")

    def __init__(self, span: Span) -> None:
        self._span = span
        # Both clocks are read in this order, and the end follows them, so no event lies outside the span.
        now_ns = time.monotonic_ns()
        self._epoch_ns = time.time_ns() - now_ns

    @classmethod
    def begin(
        cls, tracer: Tracer, name: str, kind: SpanKind, context: Context | None, attributes: Mapping[str, Any]
    ) -> Self | None:
        """Begins a span now; returns None if the sampler does not want it: then nothing more is to be done.

        `attributes` are what a sampler may decide by. `context` holds the parent; None is the current one.
        """
        span = tracer.start_span(name, context, kind, attributes)
        return cls(span) if span.is_recording() else None

    def context(self) -> Context:
        """A context in which it is the current span."""
        return set_span_in_context(self._span)

    def tell(self, attributes: Mapping[str, Any]) -> None:
        """Sets these."""
        self._span.set_attributes(attributes)

    def explain(self, info: InferInfo | None, around: Iterable[Stage] = ()) -> None:
        """Records why the request went as it did (None: it never ran) and its stages, with those `around` the
        engine's own, in the order in which they began.
        """
        inner = () if info is None else info.stages
        self.pass_through(sorted([*around, *inner], key=lambda stage: stage[1]))
        if info is None:
            return
        given = {attribute: getattr(info, name) for name, attribute in _ATTRIBUTES.items()}
        if info.predicted_us is None:
            del given["paddleinfer.predicted_us"]
        if info.run == 0:
            del given["paddleinfer.run"]
        self._span.set_attributes(given)

    def pass_through(self, stages: Iterable[Stage]) -> None:
        """Adds an event at the begin of each stage that took any time."""
        for stage, begin_ns, end_ns in stages:
            if end_ns > begin_ns:
                self._span.add_event(f"paddleinfer.{stage}", timestamp=self._epoch_ns + begin_ns)

    def fail(self, error: BaseException, at_ns: int | None = None) -> None:
        """Ends the span with an error; a cancelled request has none. See ``end`` for `at_ns`."""
        outcome = outcome_of(error)
        if isinstance(error, ModelError):
            self.explain(error.info)
        if outcome != "cancelled":
            self.blame(error)
        self.end(outcome, at_ns)

    def blame(self, error: BaseException) -> None:
        """Records the error, and that the request failed with it."""
        name = _type_name(error)
        self.blame_as(name, str(error))
        if isinstance(error, PaddleInferError) and not isinstance(error, ModelError):
            # The traceback says nothing useful, and in overload there are many errors.
            event = {"exception.type": name, "exception.message": str(error)}
            self._span.add_event("exception", event)
        else:
            self._span.record_exception(error)

    def blame_as(self, kind: str, message: str) -> None:
        """Does the same for an error without an exception."""
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, message))

    def end(self, outcome: str = "result", at_ns: int | None = None) -> None:
        """Ends the span, now or at an instant of ``time.monotonic_ns``."""
        self._span.set_attribute("paddleinfer.outcome", outcome)
        self._span.end(self._epoch_ns + (time.monotonic_ns() if at_ns is None else at_ns))

    def leave(self) -> None:
        """Ends the span of a request that nobody wants any more; does nothing if it has ended."""
        if self._span.is_recording():
            self.end("cancelled")


def outcome_of(error: BaseException) -> str:
    """Says how a request ended, in the words of traces and metrics."""
    if isinstance(error, Cancelled) or not isinstance(error, Exception):  # the task was cancelled, or Ctrl-C
        return "cancelled"
    if isinstance(error, DeadlineExceeded):
        return "shed" if error.shed else "expired"
    if isinstance(error, EngineClosed):
        return "closed" if error.accepted else "refused"
    if isinstance(error, PaddleInferError) and not isinstance(error, (ModelError, ServiceError)):
        return "refused"
    return "error"


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
