"""Makes the ASGI application: routes of the Open Inference Protocol around open engines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from paddleinfer.errors import PaddleInferError
from paddleinfer.sentences import printable, shortened, shown
from paddleinfer.serve.service import Service as ModelService
from paddleinfer.serving.formats.pipeline import Pipeline

from ..protocol.body import Headers, Message, Receive, Send
from ..protocol.errors import RequestError, to_request_error
from ..service.models import Models
from ..service.served_models import Served
from ..service.service import Service, ServiceOptions
from .answers import error_answer, error_body
from .asgi_request import AsgiRequest
from .client_watch import ClientWatch
from .fast_path import AskedModel
from .paddle_serving import GeneralModelRequest, PredictionRequest
from .pipeline_request import PipelineHttpRequest
from .routes import OPERATIONS, routes
from .service_request import ServiceRequest

if TYPE_CHECKING:
    from ..service.request_spans import HttpSpan

__all__ = ["SENT", "Application", "create_app"]

_log = logging.getLogger("paddleinfer.http")

_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]*))?/infer")
_SERVICE = re.compile(r"/services/([^/]+)")
_METHOD = re.compile(r"/([^/]+)/([^/]+)")
_PREDICTION = re.compile(r"/([^/]+)/prediction")
_GENERAL = frozenset(f"/GeneralModelService/{method}" for method in ("inference", "debug"))
_SHARED_MEMORY = re.compile(r"/v2/(system|cuda)sharedmemory/")
_WITHOUT_KEY = frozenset(path for one in OPERATIONS if not one.needs_key for path in one.paths.values())
_OF_ANY_HOST = frozenset(path for one in OPERATIONS if not one.checks_host for path in one.paths.values())

SENT = "paddleinfer.sent"
"""An ASGI extension whose `wait()` returns when the client has taken what was sent, or is gone."""

CLOSE_TIMEOUT_S = 5.0
"""At a server's end all requests are over or cut, so this only limits the wait for a run that hangs."""


def create_app(
    engines: Mapping[str, Served],
    options: ServiceOptions | None = None,
    *,
    services: Mapping[str, ModelService] | None = None,
    pipelines: Mapping[str, Pipeline] | None = None,
) -> Application:
    """Makes a Starlette application that serves these models; any ASGI server runs it, or another mounts it.

    Parameters
    ----------
    engines
        Name -> an open Engine, which the caller closes, or a ModelSource, which is opened and closed with
        the application's lifespan, or a list of ModelSources with weights, which share the name's requests.
        If it is mounted, the outer application's lifespan has to run this one's:
        ``async with app.router.lifespan_context(app): ...``.
    options
        Keys and limits.
    services
        Name -> a Service, which gets these engines by their names unless it has its own. The caller closes
        it.
    pipelines
        Name -> a pipeline or web service of ``paddleinfer.serving``, which has its engines.

    Raises
    ------
    ConfigError
        A name cannot stand in a URL, a value is neither an Engine nor a ModelSource, or a service does not
        fit the engines.
    """
    service = Service(Models.of(engines), options or ServiceOptions(), services or {}, pipelines or {})
    return Application(service, load=True)


class Application(Starlette):
    """Starlette with a shortcut for inference requests.

    With `load` its lifespan opens the sources before the first request and closes them after the last;
    otherwise somebody else does.
    """

    def __init__(self, service: Service, *, load: bool) -> None:
        self.service = service
        self._load = load
        self._watch = ClientWatch()
        super().__init__(
            routes=routes(service),
            exception_handlers={
                HTTPException: _http_error,
                RequestError: _request_error,
                PaddleInferError: _failure,
                Exception: _failure,
            },
            lifespan=self._lifespan,
        )
        self.router.redirect_slashes = False

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Sends inference straight to its handler, and everything else through Starlette's routes."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        path: str = scope["path"][len(scope.get("root_path", "")) :]
        headers = dict(scope["headers"])
        extension = (scope.get("extensions") or {}).get(SENT)
        if extension is not None:
            send = _until_sent(send, extension["wait"])
        refusal = self._refusal(path, headers)
        if refusal is not None:
            await error_answer(send, refusal)
            return
        is_post = scope["method"] == "POST"
        asked = self._service_request(path, scope, headers, receive, send) if is_post else None
        if asked is not None:
            await asked.answer()
            return
        if not is_post or not await self._infer(path, scope, headers, receive, send):
            await super().__call__(scope, receive, send)

    def _service_request(
        self, path: str, scope: Any, headers: Headers, receive: Receive, send: Send
    ) -> ServiceRequest | None:
        """A request to a service or a pipeline, if this is one."""
        given = (self.service, self._watch, headers, scope.get("query_string", b""), receive, send)
        if (match := _SERVICE.fullmatch(path)) is not None:
            return ServiceRequest(match[1], *given, self._span(scope, headers, "/services/{service}"))
        if self.service.pipelines and (match := _METHOD.fullmatch(path)) is not None:
            pipeline = self.service.pipelines.get(match[1])
            if pipeline is not None:
                span = self._span(scope, headers, "/{model}/{method}")
                return PipelineHttpRequest(pipeline, match[2], match[1], *given, span)
        return None

    async def _infer(self, path: str, scope: Any, headers: Headers, receive: Receive, send: Send) -> bool:
        """Answers an inference request; returns False if this is not one."""
        client = scope.get("client")
        given = (self.service, self._watch, None if client is None else client[0], headers, receive, send)
        if (match := _INFER.fullmatch(path)) is not None:
            asked = AskedModel(match[1], match[2])
            await AsgiRequest(*given, self._span(scope, headers, asked.route)).answer(*asked)
        elif path in _GENERAL:
            await GeneralModelRequest(*given, self._span(scope, headers, path)).answer_sole()
        elif (match := _PREDICTION.fullmatch(path)) is not None:
            span = self._span(scope, headers, "/{model}/prediction")
            await PredictionRequest(*given, span).answer(match[1], None)
        else:
            return False
        return True

    def _refusal(self, path: str, headers: Headers) -> RequestError | None:
        """Returns why this client may not send any request, or None."""
        service = self.service
        try:
            if path not in _OF_ANY_HOST:
                service.hosts.check(headers)
            if path not in _WITHOUT_KEY and not service.allows(headers):
                return _unauthorised()
            if path.endswith("\n"):  # the patterns of Starlette's routes overlook this
                return RequestError(HTTPStatus.NOT_FOUND, f"there is no {shown(path)}")
        except RequestError as error:
            return error
        return None

    def _span(self, scope: Any, headers: Headers, route: str) -> HttpSpan | None:
        if self.service.spans is None:
            return None
        return self.service.spans.of_http(
            scope["path"],
            headers,
            scope["scheme"],
            scope.get("client"),
            root_path=scope.get("root_path", ""),
            route=route,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        try:
            if self._load:
                await self.service.models.load_all()
            yield
        finally:
            if self._load:
                await self.service.models.close(timeout_s=CLOSE_TIMEOUT_S)


def _until_sent(send: Send, sent: Callable[[], Awaitable[None]]) -> Send:
    """Wraps `send`, so that an answer is not over, nor the next one made, before its client has read it."""

    async def sending(message: Message) -> None:
        await send(message)
        try:
            await sent()
        except asyncio.CancelledError:
            if message.get("more_body"):
                raise
            # The server is ending, and itself counts answers that were not read.

    return sending


def _unauthorised() -> RequestError:
    return RequestError(
        HTTPStatus.UNAUTHORIZED,
        "an API key is required: send Authorization: Bearer KEY",
        {"WWW-Authenticate": "Bearer"},
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = f"there is no {request.url.path}"
        if _SHARED_MEMORY.search(request.url.path):
            message = f"{message}: shared memory is not offered; send the tensors in the body"
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        message = f"{request.url.path} does not take {request.method}"
    else:
        message = error.detail
    return Response(
        error_body(shortened(printable(shortened(message)))),
        error.status_code,
        media_type="application/json",
        headers=error.headers,
    )


async def _request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return Response(error_body(error.message), error.status, error.headers, "application/json")


async def _failure(request: Request, error: Exception) -> Response:
    return await _request_error(request, to_request_error(error))
