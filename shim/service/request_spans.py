"""Makes OpenTelemetry's spans of requests to the server, as children of the caller's spans.

Names follow the semantic conventions for HTTP and RPC; what is ours begins with ``paddleinfer.``.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from opentelemetry.propagate import extract
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanKind, get_tracer

from paddleinfer._version import __version__
from paddleinfer.errors import ModelError
from paddleinfer.explanation import InferInfo
from paddleinfer.otel.spans import RequestSpan, outcome_of
from paddleinfer.stages import Stage

from ..protocol.body import Headers
from ..protocol.errors import RequestError, ServerEnded
from .served_models import ServedModel
from .service_spans import ServiceCallSpans
from .stage_log import ServedTimes

__all__ = ["INFER_ROUTE", "HttpSpan", "RpcSpan", "ServerSpans"]

INFER_ROUTE: Final = "/v2/models/{model}/infer"
# The most characters of a field that a propagator reads, and of the client's name in a span.
_MOST_FIELD_CHARACTERS: Final = 8192
_MOST_AGENT_CHARACTERS: Final = 1024
_RPC_FAILURES: Final = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
    | {"RESOURCE_EXHAUSTED"}
)
"""Codes that are the server's fault by the conventions; the last one means that it has too much to do."""


class ServerSpan(RequestSpan, abc.ABC):
    """A request's span on the server."""

    __slots__ = ("_calls",)

    def __init__(self, span: Span) -> None:
        super().__init__(span)
        self._calls: ServiceCallSpans | None = None

    @abc.abstractmethod
    def answered(self, info: InferInfo | None, times: ServedTimes) -> None:
        """Records an answer with a result."""

    @abc.abstractmethod
    def refused(self, error: BaseException, status: int | str) -> None:
        """Records an answer with an error and a status of the protocol."""

    def observing(self) -> contextlib.AbstractContextManager[None]:
        """Inside, a service is asked: its stages become events, and its calls of engines child spans."""
        self._calls = ServiceCallSpans(self)
        return self._calls.observing()

    def serve(self, model: ServedModel) -> None:
        """Records which model it is for."""
        self.tell({"paddleinfer.model.name": model.name, "paddleinfer.model.version": model.version})
        if model.engine is not None:
            self.tell({"paddleinfer.model.generation": model.engine.generation})

    def succeed(self, info: InferInfo | None, times: ServedTimes) -> None:
        """Ends the span of an answered request."""
        self.explain(info, [*self.of_service(), *(stage for stage in times.stages() if stage[0] != "infer")])
        self.end()

    def of_service(self) -> list[Stage]:
        """The stages of the service that was asked, if one was."""
        return [] if self._calls is None or self._calls.stages is None else self._calls.stages

    def refuse(self, error: BaseException, status: str, *, at_fault: bool) -> None:
        """Ends the span of a request without a result; `at_fault`: the reason lies with the server."""
        self.explain(error.info if isinstance(error, ModelError) else None, self.of_service())
        if at_fault and isinstance(error, RequestError):
            self.blame_as(status, error.message)
        elif at_fault:
            self.blame(error)
        if isinstance(error, ServerEnded):
            self.end("closed")
        else:
            self.end("refused" if isinstance(error, RequestError) else outcome_of(error))


class HttpSpan(ServerSpan):
    """The span of an HTTP request."""

    __slots__ = ()

    def answered(self, info: InferInfo | None, times: ServedTimes) -> None:
        """Records an answer with a result."""
        self.tell({"http.response.status_code": int(HTTPStatus.OK)})
        self.succeed(info, times)

    def answered_by_service(self, status: int, around: Iterable[Stage]) -> None:
        """Records the answer of a service, which says its status itself; `around` are the server's stages."""
        self.tell({"http.response.status_code": status})
        self.pass_through(sorted([*self.of_service(), *around], key=lambda stage: stage[1]))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.blame_as(str(status), "the service answered with this status")
        self.end("error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "result")

    def refused(self, error: BaseException, status: int | str) -> None:
        """Records an answer with an error."""
        status = int(status)
        self.tell({"http.response.status_code": status})
        # By the conventions 4xx is the client's fault, but 429 is not: the server has too much to do.
        at_fault = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
        self.refuse(error, str(status), at_fault=at_fault)


class RpcSpan(ServerSpan):
    """The span of a gRPC call, or of one request of a stream."""

    __slots__ = ()

    def answered(self, info: InferInfo | None, times: ServedTimes) -> None:
        """Records an answer with a result."""
        self.tell({"rpc.response.status_code": "OK"})
        self.succeed(info, times)

    def refused(self, error: BaseException, status: int | str) -> None:
        """Records an error; `status` is the name of the call's status, such as "UNAVAILABLE"."""
        code = str(status)
        self.tell({"rpc.response.status_code": code})
        self.refuse(error, code, at_fault=code in _RPC_FAILURES)


class ServerSpans:
    """Begins the spans of one server with OpenTelemetry's global tracer provider and propagator."""

    def __init__(self) -> None:
        self._tracer = get_tracer("paddleinfer.shim", __version__)

    def of_http(
        self,
        path: str,
        headers: Headers,
        scheme: str,
        client: tuple[str, int] | None,
        *,
        root_path: str = "",
        route: str = INFER_ROUTE,
    ) -> HttpSpan | None:
        """Begins the span of an inference request whose headers have come; None if the sampler rejects it.

        `route` is the request's path, with placeholders for its variable parts.
        """
        route = root_path + route
        attributes = {
            "http.request.method": "POST",
            "http.route": route,
            "url.path": path,
            "url.scheme": scheme,
        }
        parent = extract(headers, getter=_HEADERS)
        span = HttpSpan.begin(self._tracer, f"POST {route}", SpanKind.SERVER, parent, attributes)
        if span is not None:
            agent = headers.get(b"user-agent")
            if agent is not None:
                span.tell({"user_agent.original": agent[:_MOST_AGENT_CHARACTERS].decode("latin-1")})
            if client is not None:
                span.tell({"client.address": client[0]})
        return span

    def of_rpc(self, method: str, metadata: Mapping[str, Any]) -> RpcSpan | None:
        """Begins the span of a call to a method such as "inference.GRPCInferenceService/ModelInfer", or None.

        `metadata` is the caller's, with keys in lower case: ``dict(context.invocation_metadata())``.
        """
        attributes = {"rpc.system.name": "grpc", "rpc.method": method}
        parent = extract(metadata, getter=_METADATA)
        return RpcSpan.begin(self._tracer, method, SpanKind.SERVER, parent, attributes)


def _read(value: str) -> list[str] | None:
    """Prepares a field for a propagator.

    A field that is too long is not read, and runs of blanks become one: OpenTelemetry's patterns for text
    between two entries take quadratic time over many blanks.
    """
    return None if len(value) > _MOST_FIELD_CHARACTERS else [" ".join(value.split())]


class _HeaderGetter(Getter[Headers]):
    """Lets a propagator read the headers of a request."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        value = carrier.get(key.lower().encode("latin-1"))
        return None if value is None else _read(value.decode("latin-1"))

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name in carrier]


class _MetadataGetter(Getter[Mapping[str, Any]]):
    """Lets a propagator read the metadata of a call."""

    def get(self, carrier: Mapping[str, Any], key: str) -> list[str] | None:
        value = carrier.get(key.lower())
        return _read(value) if isinstance(value, str) else None

    def keys(self, carrier: Mapping[str, Any]) -> list[str]:
        return list(carrier)


_HEADERS: Final = _HeaderGetter()
_METADATA: Final = _MetadataGetter()
