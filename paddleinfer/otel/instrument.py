"""Makes spans of an engine's requests, for applications that trace with OpenTelemetry.

``pip install 'paddleinfer[otel]'`` installs what it needs.
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
    """Makes a span of each request of this engine from now on, whichever call makes it.

    The span's parent is the current span of the call; it begins with the call and ends with the request. A
    request that the sampler rejects costs only the sampler's decision. An engine that is not instrumented
    pays nothing.

    Parameters
    ----------
    engine
        An open engine. It stays the same object.
    tracer_provider
        The provider of spans; None is OpenTelemetry's global one, even if that is set later.
    name
        The model's name in spans; None is the name of its directory, file or function.

    Raises
    ------
    ConfigError
        It is not an Engine, or it is instrumented already.
    """
    if not isinstance(engine, Engine):
        raise ConfigError(f"instrument() takes an Engine, not {engine!r}")
    if engine.observer is not None:
        raise ConfigError(f"{engine!r} is instrumented already; uninstrument() it first")
    engine.observer = _Spans(name or engine.model.path.name, tracer_provider)


def uninstrument(engine: Engine) -> None:
    """Stops making spans of later requests; spans of requests under way go on.

    Raises
    ------
    ConfigError
        It is not instrumented.
    """
    if not isinstance(engine.observer, _Spans):
        raise ConfigError(f"{engine!r} is not instrumented")
    engine.observer = None


class _Spans:
    """Makes a span of each request that it is told of."""

    def __init__(self, name: str, tracer_provider: TracerProvider | None) -> None:
        self._tracer = get_tracer("paddleinfer", __version__, tracer_provider)
        self._name = f"infer {name}"
        self._attributes = {"paddleinfer.model.name": name}

    def begin(self, generation: int) -> RequestSpan | None:
        """Begins a span; returns None if the sampler does not want it."""
        span = RequestSpan.begin(self._tracer, self._name, SpanKind.INTERNAL, None, self._attributes)
        if span is not None:
            span.tell({"paddleinfer.model.generation": generation})
        return span

    def end(self, request: RequestSpan, info: InferInfo | None, at_ns: int | None) -> None:
        """Records how the request went, and ends the span."""
        request.explain(info)
        request.end(at_ns=at_ns)

    def fail(
        self, request: RequestSpan, error: BaseException, info: InferInfo | None, at_ns: int | None
    ) -> None:
        """Records the request's error, and ends the span."""
        if not isinstance(error, ModelError) or error.info is None:  # otherwise the error has it
            request.explain(info)
        request.fail(error, at_ns)
