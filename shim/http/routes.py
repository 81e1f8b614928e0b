"""Defines the routes of the server: each handler with its description, for Starlette and OpenAPI."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from paddleinfer.metrics import CONTENT_TYPE, exposition
from paddleinfer.sentences import shown
from paddleinfer.serve import metrics as service_metrics

from ..protocol.errors import RequestError, bad_request
from ..service import metadata, room_metrics
from ..service.origins import check_same_site
from ..service.repository import check_controlled, load_model, unload_model
from ..service.served_models import ServedModel
from ..service.service import Service
from ..service.services import ServedService
from .diagnoses import Diagnoses
from .exchange import client_left, json_answer, small_object, while_client_stays, written_answer
from .openapi import document
from .operations import Operation, Parameter, answers, operations_of
from .page import page
from .schemas import (
    ANY,
    BINARY,
    FORM,
    GENERAL_FAILURE,
    PREDICTION,
    PREDICTION_FAILURE,
    PROTO_BODY,
    Schema,
    json_of,
    object_with,
    ref,
    text_of,
)
from .traces import TraceRecorder, seconds_of

__all__ = ["OPERATIONS", "Handlers", "routes"]

_MOST_QUERY_CHARACTERS: Final = 1024

_JSON_BYTES: Final = "Inference-Header-Content-Length"
_LENGTH: Final[Schema] = {"type": "integer", "minimum": 0}
_PRIORITY: Final[Schema] = {"type": "integer", "minimum": 0, "description": "1 is the most urgent."}
_MICROSECONDS: Final[Schema] = {"type": "integer", "minimum": 1}
_OF_INFERENCE: Final = (400, 404, 413, 415, 429, 500, 503, 504)
_SECONDS: Final[Schema] = {"type": "number", "exclusiveMinimum": 0, "maximum": 60, "default": 1}
_ONLY_READY: Final[Schema] = {
    "type": "object",
    "properties": {"ready": {"type": "boolean", "description": "Only models that are ready."}},
}
_CONFIG: Final = {"type": "string", "description": 'Of the configuration, as JSON: {"max_batch_size": 16}.'}
_LOAD: Final[Schema] = {
    "type": "object",
    "properties": {"parameters": {"type": "object", "properties": {"config": _CONFIG}}},
}


def _server(path: str) -> dict[str, str]:
    return {"": path}


def _model(end: str) -> dict[str, str]:
    """Returns a path below a model, and the same below its version."""
    return {
        "": "/v2/models/{model}" + end,
        "_of_version": "/v2/models/{model}/versions/{version}" + end,
    }


class Handlers:
    """Answers all requests except inference."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._models = service.models
        self._options = service.options
        self._recorder = TraceRecorder(service.long_work)
        self._diagnoses = Diagnoses(service.long_work)

    @answers(Operation("GET", _server("/"), "page", text_of("text/html"), needs_key=False))
    async def page(self, _: Request) -> Response:
        """A page that shows the models."""
        return page()  # the page asks for the key itself

    @answers(Operation("GET", _server("/openapi.json"), "openapi", json_of(object_with("openapi", "paths"))))
    async def openapi(self, _: Request) -> Response:
        """This document."""
        return json_answer(document(OPERATIONS, self._models, self._service.services, self._options))

    @answers(Operation("GET", _server("/metrics"), "metrics", text_of("text/plain")))
    async def metrics(self, _: Request) -> Response:
        """Prometheus' text format."""
        body = exposition({model.label: engine for model, engine in self._models.opened()})
        if self._models.room is not None:
            body += room_metrics.exposition(self._models.room)
        if len(self._service.services):
            body += service_metrics.exposition({one.name: one.service for one in self._service.services})
        return Response(body, media_type=CONTENT_TYPE)

    @answers(Operation("GET", {"": "/v2", "_too": "/v2/"}, "server_metadata", json_of(ref("ServerMetadata"))))
    async def metadata(self, _: Request) -> Response:
        """Name, version, extensions."""
        return json_answer(
            metadata.server_metadata(self._options.server_name, self._options.repository_control)
        )

    # A load balancer's checks send no key, and name the server by its address.

    @answers(
        Operation(
            *("GET", _server("/v2/health/live"), "live", json_of(object_with("live"))),
            needs_key=False,
            checks_host=False,
        )
    )
    async def live(self, _: Request) -> Response:
        """Whether the process answers."""
        return json_answer({"live": True})

    @answers(
        Operation(
            *("GET", _server("/v2/health/ready"), "ready", json_of(object_with("ready")), (503,)),
            needs_key=False,
            checks_host=False,
        )
    )
    async def ready(self, _: Request) -> Response:
        """Whether it takes requests."""
        if self._service.ready:
            return json_answer({"ready": True, "live": True})
        why = "the server is ending" if self._service.draining else "not every model is ready"
        return json_answer({"ready": False, "live": True, "error": why}, HTTPStatus.SERVICE_UNAVAILABLE)

    @answers(Operation("GET", _server("/v2/live"), "live_numbers", json_of(ref("Live"))))
    async def live_numbers(self, _: Request) -> Response:
        """What the page shows live."""
        return json_answer(metadata.live(self._models.opened()))

    @answers(Operation("GET", _server("/v2/models/stats"), "all_statistics", json_of(ref("Statistics"))))
    async def all_statistics(self, _: Request) -> Response:
        """Statistics of all models."""
        return json_answer(metadata.statistics(self._models.counted()))

    @answers(
        Operation(
            *("GET", _server("/v2/trace"), "trace", json_of(object_with("traceEvents")), (400, 404)),
            parameters=(Parameter("seconds", "query", _SECONDS), Parameter("model", "query")),
        )
    )
    async def trace(self, request: Request) -> Response:
        """Records a Chrome trace."""
        if len(request.url.query) > _MOST_QUERY_CHARACTERS:
            raise bad_request(f"the query is longer than {_MOST_QUERY_CHARACTERS} characters")
        unknown = [name for name in request.query_params if name not in ("seconds", "model")]
        if unknown:
            raise bad_request(f"/v2/trace takes the parameters seconds and model, not {shown(unknown[0])}")
        seconds = seconds_of(request.query_params.get("seconds", "1"))
        name = request.query_params.get("model")
        models: Iterable[ServedModel] = self._models
        services: Iterable[ServedService] = self._service.services
        if name is not None:
            models, services = self._models.versions(name), []
        ends = (lambda: client_left(request), self._service.ended)
        return written_answer(await self._recorder.record(models, seconds, *ends, services=services))

    # Triton's model repository

    @answers(
        Operation(
            *("POST", _server("/v2/repository/index"), "repository_index"),
            json_of({"type": "array", "items": ref("RepositoryModel")}),
            (400, 413),
            body=json_of(_ONLY_READY),
        )
    )
    async def index(self, request: Request) -> Response:
        """The models and their state."""
        ready = (await small_object(request)).get("ready", False)
        if not isinstance(ready, bool):
            raise bad_request('"ready" must be true or false')
        return json_answer(metadata.index(self._models, only_ready=ready))

    @answers(
        Operation(
            *("POST", _server("/v2/repository/models/{model}/load"), "load_model"),
            json_of(object_with()),
            (400, 403, 404, 413, 429, 500, 503),
            body=json_of(_LOAD),
        )
    )
    async def load(self, request: Request) -> Response:
        """Load a model."""
        self._check_may_change(request)
        body = await small_object(request)
        name = request.path_params["model"]
        loading = load_model(self._models, name, body, self._options.max_load_batch_size)
        await while_client_stays(request, loading)
        return json_answer({})

    @answers(
        Operation(
            *("POST", _server("/v2/repository/models/{model}/unload"), "unload_model"),
            json_of(object_with()),
            (400, 403, 404, 429, 500, 503),
        )
    )
    async def unload(self, request: Request) -> Response:
        """Unload a model."""
        self._check_may_change(request)
        await while_client_stays(request, unload_model(self._models, request.path_params["model"]))
        return json_answer({})

    # One model

    @answers(Operation("GET", _model(""), "model_metadata", json_of(ref("ModelMetadata")), (404, 503)))
    async def model_metadata(self, request: Request) -> Response:
        """Inputs and outputs."""
        model = self._model(request)
        return json_answer(metadata.model_metadata(model, self._models.versions(model.name)))

    @answers(
        Operation("GET", _model("/ready"), "model_ready", json_of(object_with("name", "ready")), (404, 503))
    )
    async def model_ready(self, request: Request) -> Response:
        """Whether the model takes requests."""
        model = self._model(request)
        if model.ready and not self._service.draining:
            return json_answer({"name": model.name, "ready": True})
        why = f"model {model.label!r} is not ready: {model.reason}"
        return json_answer({"name": model.name, "ready": False, "error": why}, HTTPStatus.SERVICE_UNAVAILABLE)

    @answers(
        Operation(
            *("GET", _model("/config"), "model_config", json_of(object_with("name", "max_batch_size"))),
            (404, 503),
        )
    )
    async def model_config(self, request: Request) -> Response:
        """The configuration in force."""
        model = self._model(request)
        with self._models.use(model) as use:  # clients that measure ask this first
            await use.loaded(None)
            return json_answer(metadata.model_config(model, model.open_engine()))

    @answers(Operation("GET", _model("/stats"), "model_statistics", json_of(ref("Statistics")), (404, 503)))
    async def model_statistics(self, request: Request) -> Response:
        """Statistics."""
        model = self._model(request)
        return json_answer(metadata.statistics([(model, model.open_engine())]))

    @answers(
        Operation(
            *("GET", _model("/diagnosis"), "model_diagnosis", json_of(object_with("model", "verdict"))),
            (404, 503),
        )
    )
    async def model_diagnosis(self, request: Request) -> Response:
        """What binds its requests."""
        return written_answer(await self._diagnoses.of(self._model(request)))

    @answers(
        Operation(
            *("POST", _model("/infer"), "infer", {**json_of(ref("InferResponse")), **BINARY}),
            _OF_INFERENCE,
            parameters=(Parameter(_JSON_BYTES, "header", _LENGTH),),
            body={**json_of(ref("InferRequest")), **BINARY},
            body_is_required=True,
            answer_headers={_JSON_BYTES: {"schema": _LENGTH}},
        )
    )
    async def infer(self, request: Request) -> Response:
        """Run the model."""
        # The application answers this before its routes are asked; here it stands for the other methods' 405.
        raise RequestError(HTTPStatus.NOT_FOUND, f"there is no {request.url.path}")

    # Services

    @answers(
        Operation(
            "GET", _server("/services"), "services", json_of({"type": "array", "items": object_with("name")})
        )
    )
    async def services(self, _: Request) -> Response:
        """The services, and what they have counted."""
        return json_answer([_described(served) for served in self._service.services])

    @answers(
        Operation(
            *("GET", _server("/services/{service}"), "service", json_of(object_with("name"))),
            (404,),
        )
    )
    async def service(self, request: Request) -> Response:
        """One service, and what it has counted."""
        return json_answer(_described(self._service.services.get(request.path_params["service"])))

    @answers(
        Operation(
            *("GET", _server("/services/{service}/diagnosis"), "service_diagnosis"),
            json_of(object_with("service", "verdict")),
            (404,),
        )
    )
    async def service_diagnosis(self, request: Request) -> Response:
        """What binds the requests of a service."""
        served = self._service.services.get(request.path_params["service"])
        found = await self._service.long_work.run(None, served.service.diagnose)
        return json_answer({"service": served.name, **found.as_dict()})

    @answers(
        Operation(
            *("POST", _server("/services/{service}"), "ask_service", ANY),
            _OF_INFERENCE,
            parameters=(
                Parameter("Paddleinfer-Timeout-Us", "header", _MICROSECONDS),
                Parameter("Paddleinfer-Priority", "header", _PRIORITY),
            ),
            body={**json_of({}), **FORM, **BINARY},
        )
    )
    async def ask_service(self, request: Request) -> Response:
        """Ask a service."""
        # As of infer: the application answers it before.
        raise RequestError(HTTPStatus.NOT_FOUND, f"there is no {request.url.path}")

    # Paddle Serving's forms, which the application answers, too

    @answers(
        Operation(
            *("POST", _server("/{model}/prediction"), "prediction", json_of(PREDICTION)),
            _OF_INFERENCE,
            failure=json_of(PREDICTION_FAILURE),
            body=json_of(object_with()),
            body_is_required=True,
        )
    )
    async def prediction(self, request: Request) -> Response:
        """Run the model, as Paddle Serving's web services do."""
        raise RequestError(HTTPStatus.NOT_FOUND, f"there is no {request.url.path}")

    @answers(
        Operation(
            "POST",
            {
                "": "/GeneralModelService/inference",
                "_debug": "/GeneralModelService/debug",
            },
            "general_model",
            {**json_of(object_with("err_no")), **PROTO_BODY},
            _OF_INFERENCE,
            failure={**json_of(GENERAL_FAILURE), **PROTO_BODY},
            body={**json_of(object_with()), **PROTO_BODY},
            body_is_required=True,
        )
    )
    async def general_model(self, request: Request) -> Response:
        """Run the only model, as Paddle Serving's server does."""
        raise RequestError(HTTPStatus.NOT_FOUND, f"there is no {request.url.path}")

    def _model(self, request: Request) -> ServedModel:
        return self._models.get(request.path_params["model"], request.path_params.get("version"))

    def _check_may_change(self, request: Request) -> None:
        check_same_site(dict(request.scope["headers"]), self._service.hosts)
        check_controlled(self._options)


OPERATIONS: Final = operations_of(Handlers)


def routes(service: Service) -> list[Route]:
    """Returns the routes for Starlette, which takes the first that matches."""
    handlers = Handlers(service)
    return [
        Route(path, getattr(handlers, one.handler), methods=[one.method])
        for one in OPERATIONS
        for path in one.paths.values()
    ]


def _described(served: ServedService) -> dict[str, Any]:
    service = served.service
    return {
        "name": served.name,
        "functions": service.calls.functions.names,
        "engines": list(service.engines),
        "under_way": service.calls.under_way,
        "latency": served.latencies.as_dict(),
        **service.stats(),
    }
