"""Serves ``inference.GRPCInferenceService``: what HTTP's routes answer, for clients of Triton and KServe."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from google.protobuf.json_format import ParseDict

from ..protocol.errors import RequestError
from ..service import metadata
from ..service.repository import check_controlled, load_model, unload_model
from ..service.served_models import ServedModel
from ..service.service import Service
from .calls import Behaviour, Calls
from .infer import GrpcInference
from .limits import MessageReader
from .messages import METHODS, SERVICE, STREAM, message_class

__all__ = ["OPEN_METHODS", "inference_behaviours", "inference_handlers"]

OPEN_METHODS: Final = frozenset({f"/{SERVICE}/ServerLive", f"/{SERVICE}/ServerReady"})
"""Calls that need no key."""

# Triton's calls that are refused, with a sentence each.
_SHARED_MEMORY: Final = "shared memory is not offered; send the tensors in the request"
_UNOFFERED: Final = {
    **{
        f"{kind}SharedMemory{action}": _SHARED_MEMORY
        for kind in ("System", "Cuda")
        for action in ("Status", "Register", "Unregister")
    },
    "TraceSetting": "settings of traces are not offered; GET /v2/trace of the HTTP server records one",
    "LogSettings": "settings of the log are not offered",
}


def inference_handlers(service: Service, inference: GrpcInference, calls: Calls) -> Mapping[str, Any]:
    """Returns method -> its handler."""
    behaviours = inference_behaviours(service, inference)
    handlers = {method: calls.unary(method, behaviour) for method, behaviour in behaviours.items()}
    handlers[STREAM] = calls.stream(STREAM, inference.stream)
    for method, why in _UNOFFERED.items():
        handlers[method] = calls.unary(method, _refusing(why))
    return handlers


def inference_behaviours(service: Service, inference: GrpcInference) -> Mapping[str, Behaviour]:
    """Returns for each of METHODS what makes the bytes of its answer, of the request's and a context."""
    answers = _Answers(service)
    behaviours: dict[str, Behaviour] = {
        method: _answering(method, getattr(answers, _snake(method)))
        for method in METHODS
        if method != "ModelInfer"
    }
    behaviours["ModelInfer"] = inference.infer
    return behaviours


def _snake(method: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in method).lstrip("_")


def _answering(method: str, answer: Callable[[Any], Awaitable[dict[str, Any]]]) -> Any:
    """Makes a behaviour that reads `METHODRequest` and writes the answer as `METHODResponse`."""
    read, response_class = (
        MessageReader(message_class(f"{method}Request")),
        message_class(f"{method}Response"),
    )

    async def behaviour(body: bytes, context: Any) -> bytes:
        answered = await answer(read(body))
        written: bytes = ParseDict(answered, response_class()).SerializeToString()
        return written

    return behaviour


def _refusing(why: str) -> Any:
    async def behaviour(body: bytes, context: Any) -> bytes:
        raise RequestError(HTTPStatus.NOT_IMPLEMENTED, why)

    return behaviour


class _Answers:
    """Methods that take the message of a request and return the fields of its response."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._models = service.models
        self._options = service.options

    def _model(self, request: Any) -> ServedModel:
        model: ServedModel = self._models.get(request.name, request.version)
        return model

    async def server_live(self, request: Any) -> dict[str, Any]:
        return {"live": True}

    async def server_ready(self, request: Any) -> dict[str, Any]:
        return {"ready": self._service.ready}

    async def model_ready(self, request: Any) -> dict[str, Any]:
        try:
            model = self._model(request)
        except RequestError:  # a missing model is not ready, which is not an error, as with Triton
            return {"ready": False}
        return {"ready": model.ready and not self._service.draining}

    async def server_metadata(self, request: Any) -> dict[str, Any]:
        return metadata.server_metadata(self._options.server_name, self._options.repository_control)

    async def model_metadata(self, request: Any) -> dict[str, Any]:
        model = self._model(request)
        return metadata.model_metadata(model, self._models.versions(model.name))

    async def model_config(self, request: Any) -> dict[str, Any]:
        model = self._model(request)
        with self._models.use(model) as use:
            await use.loaded(None)
            return {"config": metadata.model_config(model, model.open_engine())}

    async def model_statistics(self, request: Any) -> dict[str, Any]:
        """Answers for the named model, or for all of them."""
        if request.name:
            model = self._model(request)
            return metadata.statistics([(model, model.open_engine())])
        return metadata.statistics(self._models.counted())

    async def repository_index(self, request: Any) -> dict[str, Any]:
        return {"models": metadata.index(self._models, only_ready=request.ready)}

    async def repository_model_load(self, request: Any) -> dict[str, Any]:
        check_controlled(self._options)
        parameters = {
            name: getattr(parameter, parameter.WhichOneof("parameter_choice") or "string_param")
            for name, parameter in request.parameters.items()
        }
        body = {"parameters": parameters}
        await load_model(self._models, request.model_name, body, self._options.max_load_batch_size)
        return {}

    async def repository_model_unload(self, request: Any) -> dict[str, Any]:
        check_controlled(self._options)
        await unload_model(self._models, request.model_name)
        return {}
