"""Spans of an engine's requests, for applications that trace with OpenTelemetry.

``pip install 'paddleinfer[otel]'`` brings what it needs.
"""

from __future__ import annotations

try:
    from opentelemetry.trace import SpanKind, TracerProvider, get_tracer
except ModuleNotFoundError as error:
    raise ImportError(
        f"paddleinfer.otel needs {error.name}, which is not installed; "
        "pip install 'paddleinfer[otel]' brings it",
        name=error.name,
    ) from error

from paddleinfer._version import __version__
from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError, ModelError
from paddleinfer.explanation import InferInfo
from paddleinfer.otel.spans import RequestSpan

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
    if engine.observer is not None:
        raise ConfigError(f"{engine!r} is instrumented already; uninstrument() it first")
    engine.observer = _Spans(name or engine.model.path.name, tracer_provider)


def uninstrument(engine: Engine) -> None:
    """Later requests are no spans any more; those under way still are.

    Raises
    ------
    ConfigError
        It is not instrumented.
    """
    if not isinstance(engine.observer, _Spans):
        raise ConfigError(f"{engine!r} is not instrumented")
    engine.observer = None


class _Spans:
    """Each request that it is told of is a span."""

    def __init__(self, name: str, tracer_provider: TracerProvider | None) -> None:
        self._tracer = get_tracer("paddleinfer", __version__, tracer_provider)
        self._name = f"infer {name}"
        self._attributes = {"paddleinfer.model.name": name}

    def begin(self, generation: int) -> RequestSpan | None:
        """A span that the sampler wants, or None."""
        span = RequestSpan.begin(self._tracer, self._name, SpanKind.INTERNAL, None, self._attributes)
        if span is not None:
            span.tell({"paddleinfer.model.generation": generation})
        return span

    def end(self, request: RequestSpan, info: InferInfo | None, at_ns: int | None) -> None:
        """The span says how the request went, and is over."""
        request.explain(info)
        request.end(at_ns=at_ns)

    def fail(
        self, request: RequestSpan, error: BaseException, info: InferInfo | None, at_ns: int | None
    ) -> None:
        """The span says what the request failed with, and is over."""
        if not isinstance(error, ModelError) or error.info is None:  # else the error says it
            request.explain(info)
        request.fail(error, at_ns)
