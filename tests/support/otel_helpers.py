"""Spans in memory, and callers whose context the tests choose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine_helpers import eventually
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags

TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736
SPAN_ID = 0x00F067AA0BA902B7
SAMPLED = f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-01"
UNSAMPLED = f"00-{TRACE_ID:032x}-{SPAN_ID:016x}-00"


class Recorded:
    """What one tracer provider was told."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def clear(self) -> None:
        self._exporter.clear()

    def spans(self, count: int) -> list[ReadableSpan]:
        """So many; some end just after their caller has its answer."""
        assert eventually(lambda: len(self._exporter.get_finished_spans()) >= count)
        spans = list(self._exporter.get_finished_spans())
        assert len(spans) == count, [span.name for span in spans]
        return spans

    def span(self) -> ReadableSpan:
        (span,) = self.spans(1)
        return span


_GLOBAL = Recorded()


def global_recorded() -> Recorded:
    """Of the global provider, which a process sets once."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(_GLOBAL.provider)
    assert trace.get_tracer_provider() is _GLOBAL.provider
    _GLOBAL.clear()
    return _GLOBAL


@contextmanager
def called_from(flags: int) -> Iterator[None]:
    """Inside, the current span is the one of TRACE_ID and SPAN_ID, somewhere else."""
    context = SpanContext(TRACE_ID, SPAN_ID, is_remote=True, trace_flags=TraceFlags(flags))
    with trace.use_span(NonRecordingSpan(context)):
        yield


def told(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes, ours without their prefix."""
    assert span.attributes is not None
    return {name.removeprefix("paddleinfer."): value for name, value in span.attributes.items()}


def stages(span: ReadableSpan) -> list[str]:
    """Its events in order, which lie within it."""
    times = [event.timestamp for event in span.events]
    assert span.start_time is not None and span.end_time is not None
    assert times == sorted(times) and all(span.start_time <= time <= span.end_time for time in times)
    return [event.name.removeprefix("paddleinfer.") for event in span.events]


def exceptions(span: ReadableSpan) -> list[str]:
    """The types of the exceptions it recorded; then it failed by the last."""
    events = [event.attributes for event in span.events if event.name == "exception"]
    types = [str(attributes["exception.type"]) for attributes in events if attributes is not None]
    if types:
        assert span.status.status_code is StatusCode.ERROR and told(span)["error.type"] == types[-1]
    return types
