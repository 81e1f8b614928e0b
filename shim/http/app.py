"""The ASGI application: routes of the Open Inference Protocol around open engines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from paddleinfer.engine import Engine
from paddleinfer.errors import PaddleInferError
from paddleinfer.metrics import CONTENT_TYPE, exposition

from . import describe
from .body import Headers, Receive, Send
from .errors import RequestError, ServerEnded, bad_request, status_of
from .inference import error_answer
from .looking import diagnosis, record_trace, seconds_of
from .models import Models, ModelSource
from .openapi import document
from .page import page
from .repository import check_controlled, load_model
from .service import Service, ServiceOptions

if TYPE_CHECKING:
    from .request_spans import HttpSpan

__all__ = ["Application", "create_app"]

_log = logging.getLogger("paddleinfer.http")

_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]*))?/infer")
_SHARED_MEMORY = re.compile(r"/v2/(system|cuda)sharedmemory/")
_OPEN = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
"""Routes that need no key: health checks, and the page, which asks for the key itself."""

CLOSE_TIMEOUT_S = 5.0
"""At the end of a server all requests are over, or have been cut: only a run that hangs is waited for."""

Endpoint = Callable[[Request], Awaitable[Response]]


def create_app(
    engines: Mapping[str, Engine | ModelSource], options: ServiceOptions | None = None
) -> Application:
    """A Starlette application that serves these models; to be run by any ASGI server, or mounted in another.

    Parameters
    ----------
    engines
        Name -> an open Engine, which stays its giver's to close, or a ModelSource, which is opened and closed
        with the application's lifespan. Mounted, the outer application's lifespan has to run this one's:
        ``async with app.router.lifespan_context(app): ...``.
    options
        Keys and limits.

    Raises
    ------
    ConfigError
        A name cannot stand in a URL, or a value is neither an Engine nor a ModelSource.
    """
    return Application(Service(Models.of(engines), options or ServiceOptions()), load=True)


class Application(Starlette):
    """Starlette, with a short way for inference requests.

    With `load` its lifespan opens the sources before the first request and closes them after the last; else
    somebody else does.
    """

    def __init__(self, service: Service, *, load: bool) -> None:
        self.service = service
        self._load = load
        super().__init__(
            routes=_routes(service),
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
        """Inference goes straight to its handler, everything else through Starlette's routes."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        path: str = scope["path"][len(scope.get("root_path", "")) :]
        headers = dict(scope["headers"])
        if path not in _OPEN and not self.service.allows(headers):
            await error_answer(send, _unauthorised(), _error_body)
            return
        match = _INFER.fullmatch(path) if scope["method"] == "POST" else None
        if match is None:
            await super().__call__(scope, receive, send)
            return
        began = False

        async def noting(message: Any) -> None:
            nonlocal began
            began = True
            if self.service.draining and message["type"] == "http.response.start":
                message["headers"].append((b"connection", b"close"))
            await send(message)

        span = self._span(scope, headers, versioned=match[2] is not None)
        try:
            model = self.service.models.get(match[1], match[2])
            await self.service.inference(model, headers, receive, noting, span)
        except asyncio.CancelledError:
            if began or not self.service.draining:
                raise
            cut = ServerEnded()
            status = await error_answer(send, cut, _error_body)
            if span is not None:
                span.refused(cut, status)
        except Exception as error:
            if began:
                if span is not None:
                    span.fail(error)
                raise
            if not isinstance(error, RequestError) and status_of(error).status == 500:
                _log.exception("a request to %s failed", path)
            status = await error_answer(send, error, _error_body)
            if span is not None:
                span.refused(error, status)
        finally:
            if span is not None:
                span.leave()

    def _span(self, scope: Any, headers: Headers, *, versioned: bool) -> HttpSpan | None:
        if self.service.spans is None:
            return None
        return self.service.spans.of_http(
            scope["path"],
            headers,
            scope["scheme"],
            scope.get("client"),
            root_path=scope.get("root_path", ""),
            versioned=versioned,
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


def _routes(service: Service) -> list[Route]:
    models, options = service.models, service.options

    async def live(_: Request) -> Response:
        return _json({"live": True})

    async def ready(_: Request) -> Response:
        if service.ready:
            return _json({"ready": True, "live": True})
        why = "the server is ending" if service.draining else "not every model is ready"
        return _json({"ready": False, "live": True, "error": why}, HTTPStatus.SERVICE_UNAVAILABLE)

    async def metadata(_: Request) -> Response:
        return _json(describe.server_metadata(options.server_name, options.repository_control))

    async def model_metadata(request: Request) -> Response:
        model = _model(request)
        return _json(describe.model_metadata(model, model.open_engine()))

    async def model_ready(request: Request) -> Response:
        model = _model(request)
        if model.ready and not service.draining:
            return _json({"name": model.name, "ready": True})
        return _json(
            {
                "name": model.name,
                "ready": False,
                "error": f"model {model.name!r} is not ready: {model.reason}",
            },
            HTTPStatus.SERVICE_UNAVAILABLE,
        )

    async def config(request: Request) -> Response:
        model = _model(request)
        return _json(describe.model_config(model, model.open_engine()))

    async def model_stats(request: Request) -> Response:
        model = _model(request)
        return _json(describe.statistics([(model, model.open_engine())]))

    async def all_stats(_: Request) -> Response:
        return _json(describe.statistics(models.opened()))

    async def live_numbers(_: Request) -> Response:
        return _json(describe.live(models.opened()))

    async def index(request: Request) -> Response:
        ready = (await _small_object(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise bad_request('"ready" must be true or false')
        return _json(describe.index(models, only_ready=ready))

    async def load(request: Request) -> Response:
        check_controlled(options)
        await load_model(models, request.path_params["model"], await _small_object(request))
        return _json({})

    async def unload(request: Request) -> Response:
        check_controlled(options)
        await models.unload(_model(request))
        return _json({})

    async def metrics(_: Request) -> Response:
        body = exposition({model.name: engine for model, engine in models.opened()})
        return Response(body, media_type=CONTENT_TYPE)

    async def trace(request: Request) -> Response:
        unknown = [name for name in request.query_params if name not in ("seconds", "model")]
        if unknown:
            raise bad_request(f"/v2/trace takes the parameters seconds and model, not {unknown[0]!r}")
        seconds = seconds_of(request.query_params.get("seconds", "1"))
        name = request.query_params.get("model")
        of = models if name is None else [models.get(name)]
        return _json(await record_trace(of, seconds, _left(request), service.ended()))

    async def model_diagnosis(request: Request) -> Response:
        return _json(diagnosis(_model(request)))

    async def openapi(_: Request) -> Response:
        return _json(document(service.models, options))

    async def start_page(_: Request) -> Response:
        return page()

    def _model(request: Request) -> Any:
        return models.get(request.path_params["model"], request.path_params.get("version"))

    routes = [
        Route("/", start_page),
        Route("/openapi.json", openapi),
        Route("/metrics", metrics),
        Route("/v2", metadata),
        Route("/v2/", metadata),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/live", live_numbers),
        Route("/v2/models/stats", all_stats),
        Route("/v2/trace", trace),
        Route("/v2/repository/index", index, methods=["POST"]),
        Route("/v2/repository/models/{model}/load", load, methods=["POST"]),
        Route("/v2/repository/models/{model}/unload", unload, methods=["POST"]),
    ]
    of_model: list[tuple[str, Endpoint, list[str]]] = [
        ("", model_metadata, ["GET"]),
        ("/ready", model_ready, ["GET"]),
        ("/config", config, ["GET"]),
        ("/stats", model_stats, ["GET"]),
        ("/diagnosis", model_diagnosis, ["GET"]),
        ("/infer", _never, ["POST"]),
    ]
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [Route(prefix + end, endpoint, methods=methods) for end, endpoint, methods in of_model]
    return routes


async def _never(request: Request) -> Response:
    """Stands in the routes so that another method than POST gets 405; POST never comes here."""
    raise RequestError(HTTPStatus.NOT_FOUND, f"there is no {request.url.path}")


async def _left(request: Request) -> None:
    """Returns when its client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _small_object(request: Request) -> dict[str, Any]:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > 1 << 16:
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the body is larger than 65536 bytes")
    try:
        given = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise RequestError(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise RequestError(HTTPStatus.BAD_REQUEST, "the body must be a JSON object")
    return given


def _json(value: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(
        orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), status_code=status, media_type="application/json"
    )


def _error_body(message: str) -> bytes:
    return orjson.dumps({"error": message})


def _unauthorised() -> RequestError:
    return RequestError(
        HTTPStatus.UNAUTHORIZED,
        "this server wants its key: Authorization: Bearer KEY",
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
        _error_body(message), error.status_code, media_type="application/json", headers=error.headers
    )


async def _request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return Response(_error_body(error.message), error.status, error.headers, "application/json")


async def _failure(request: Request, error: Exception) -> Response:
    return await _request_error(request, status_of(error))
