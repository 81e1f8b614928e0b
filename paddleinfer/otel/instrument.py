"""Spans of an engine's requests, for applications that trace with OpenTelemetry.

``pip install 'paddleinfer[otel]'`` brings what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from opentelemetry.context import Context, get_current
    from opentelemetry.trace import SpanKind, TracerProvider, get_tracer
except ModuleNotFoundError as error:
    raise ImportError(
        f"paddleinfer.otel needs {error.name}, which is not installed; "
        "pip install 'paddleinfer[otel]' brings it",
        name=error.name,
    ) from error

from paddleinfer import _ext
from paddleinfer._version import __version__
from paddleinfer.engine import Engine
from paddleinfer.engine_base import Inputs, Results
from paddleinfer.errors import Cancelled, ConfigError
from paddleinfer.explanation import InferInfo
from paddleinfer.futures import InferFuture
from paddleinfer.otel_spans import RequestSpan
from paddleinfer.padding import PaddedHandle, info_of

__all__ = ["instrument", "uninstrument"]


def instrument(
    engine: Engine, tracer_provider: TracerProvider | None = None, *, name: str | None = None
) -> None:
    """From now on each request of this engine is a span, however it is called.

    Its parent is the current span of the call; it begins with the call and ends when the request does. A
    request that the sampler does not want costs the sampler's decision. An engine that is not instrumented
    pays nothing.

    Parameters
    ----------
    engine
        An open one. It stays the same object.
    tracer_provider
        Where spans go; None is OpenTelemetry's global one, also when that is set later.
    name
        What spans call the model; None is the name of its directory, file or function.

    Raises
    ------
    ConfigError
        It is no Engine, or instrumented already.
    """
    if not isinstance(engine, Engine):
        raise ConfigError(f"instrument() takes an Engine, not {engine!r}")
    if isinstance(engine, _Instrumented):
        raise ConfigError(f"{engine!r} is instrumented already; uninstrument() it first")
    kind = type(engine)
    engine._spans = _Spans(name or engine.model.path.name, tracer_provider)  # type: ignore[attr-defined]
    # Its methods are replaced by its class: bound methods in the object would keep it from being dropped.
    engine.__class__ = type(kind.__name__, (_Instrumented, kind), {"__module__": kind.__module__})


def uninstrument(engine: Engine) -> None:
    """Later requests are no spans any more; those under way still are.

    Raises
    ------
    ConfigError
        It is not instrumented.
    """
    if not isinstance(engine, _Instrumented):
        raise ConfigError(f"{engine!r} is not instrumented")
    engine.__class__ = type(engine).__bases__[1]
    del engine._spans


class _Spans:
    """Begins the spans of one engine."""

    def __init__(self, name: str, tracer_provider: TracerProvider | None) -> None:
        self._tracer = get_tracer("paddleinfer", __version__, tracer_provider)
        self._name = f"infer {name}"
        self._attributes = {"paddleinfer.model.name": name}

    def begin(self, engine: Engine, context: Context | None = None) -> RequestSpan | None:
        span = RequestSpan.begin(self._tracer, self._name, SpanKind.INTERNAL, context, self._attributes)
        if span is not None:
            span.tell({"paddleinfer.model.generation": engine.generation})
        return span


class _Instrumented(Engine):
    """An engine whose requests are spans."""

    _spans: _Spans

    def infer(self, inputs: Inputs, **options: Any) -> Any:
        span = self._spans.begin(self)
        if span is None:
            return super().infer(inputs, **options)
        return_info = options.pop("return_info", False)
        try:
            answer = super().infer(inputs, return_info=True, **options)
        except BaseException as error:
            span.fail(error)
            raise
        return _answered(span, answer, return_info)

    async def ainfer(self, inputs: Inputs, **options: Any) -> Any:
        span = self._spans.begin(self)
        if span is None:
            return await super().ainfer(inputs, **options)
        return_info = options.pop("return_info", False)
        try:
            answer = await super().ainfer(inputs, return_info=True, **options)
        except BaseException as error:
            span.fail(error)
            raise
        return _answered(span, answer, return_info)

    def submit(self, inputs: Inputs, **options: Any) -> InferFuture:
        span = self._spans.begin(self)
        if span is None:
            return super().submit(inputs, **options)
        try:
            future = super().submit(inputs, **options)
        except BaseException as error:
            span.fail(error)
            raise
        future.add_done_callback(lambda done: _end_with(span, done))
        return future

    def _starter(self, *options: Any) -> Callable[[Inputs], Any]:
        start, spans, context = super()._starter(*options), self._spans, get_current()

        def start_with_span(item: Inputs) -> Any:
            span = spans.begin(self, context)
            if span is None:
                return start(item)
            try:
                return _SpannedHandle(start(item), span)
            except BaseException as error:
                span.fail(error)
                raise

        return start_with_span


class _SpannedHandle:
    """A request of a stream; its span ends when it did, not when the stream's reader comes to it."""

    def __init__(self, handle: _ext.Handle | PaddedHandle, span: RequestSpan) -> None:
        self._handle = handle
        self._span = span

    def wait(self, timeout: float | None) -> bool:
        return self._handle.wait(timeout)

    def result(self) -> Results:
        info = info_of(self._handle)
        self._span.explain(info)
        ended_ns = None if info is None else info.stages[-1][2]
        try:
            results = self._handle.result()
        except BaseException as error:
            self._span.fail(error, ended_ns)
            raise
        self._span.end(at_ns=ended_ns)
        return results

    def give_up(self) -> None:
        self._handle.give_up()
        self._span.leave()


def _answered(span: RequestSpan, answer: tuple[Results, InferInfo], return_info: bool) -> Any:
    """What a call gives its caller; its span is over."""
    results, info = answer
    span.explain(info)
    span.end()
    return answer if return_info else results


def _end_with(span: RequestSpan, future: InferFuture) -> None:
    """A future is done, and so is its span."""
    span.explain(future.info)
    error = Cancelled("the request was cancelled") if future.cancelled() else future.exception()
    if error is None:
        span.end()
    else:
        span.fail(error)
