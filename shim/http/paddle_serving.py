"""Inference requests in the forms of Paddle Serving, answered as its servers answer them."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import numpy.typing as npt
import orjson

from paddleinfer.models.reader import TensorSpec
from paddleinfer.serving.formats import general_model, prediction
from paddleinfer.serving.formats.texts import array_text

from ..protocol.errors import RequestError
from ..protocol.request import InferRequest, plain_request, refuse_texts
from ..protocol.serving_json import CountedJson, make_jsonable, object_of
from ..service.served_models import ServedModel
from .answers import JSON_FIELDS, answer
from .asgi_request import AsgiRequest, Fields

__all__ = ["IN_THE_ANSWER", "PROTO", "GeneralModelRequest", "PredictionRequest"]

Array = npt.NDArray[Any]

PROTO: Final = "application/proto"

IN_THE_ANSWER: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""Statuses that say what became of the request itself: its answer's document has them. Others concern the
connection, and stay what they are."""


class _ServingRequest(AsgiRequest, abc.ABC):
    """What both forms have in common: a request that failed gets 200 unless real statuses are asked for."""

    __slots__ = ()

    async def _send_refusal(self, error: RequestError) -> int:
        if error.status not in IN_THE_ANSWER:
            return await super()._send_refusal(error)
        status = error.status if self._service.options.http_status == "real" else int(HTTPStatus.OK)
        payload, fields = self._failed(error)
        fields += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
        await answer(self._send, status, payload, fields)
        return status

    @abc.abstractmethod
    def _failed(self, error: RequestError) -> tuple[bytes, Fields]:
        """The body and the headers of an answer without a result."""


class PredictionRequest(_ServingRequest):
    """``/{name}/prediction``: keys and values, tensors, or feeds and fetches."""

    __slots__ = ("_asks_for_profile", "_has_feeds", "_has_tensors")

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._has_feeds = self._has_tensors = self._asks_for_profile = False

    def _chosen(self, name: str, version: str | None) -> ServedModel:
        return self._service.model_of_prediction(name)

    def _read(self, body: bytes, inputs: Sequence[TensorSpec]) -> InferRequest:
        document = object_of(body)
        refuse_texts((*inputs, *self.model.outputs))
        wanted: list[str] = []
        self._has_feeds = prediction.is_feed_form(document)
        if self._has_feeds:
            arrays, wanted = prediction.read_feeds(document, inputs)
        else:
            self._asks_for_profile = prediction.asks_for_profile(document)
            arrays, self._has_tensors = prediction.read_keys_and_values(document, inputs, CountedJson().loads)
        return plain_request(arrays, wanted or self._aliases())

    def _aliases(self) -> list[str]:
        return [tensor.alias or tensor.name for tensor in self.model.outputs]

    def _write(self, request: InferRequest, results: Mapping[str, Array]) -> tuple[bytes, Fields, bool]:
        document: dict[str, Any]
        if self._has_feeds:
            document = {
                "result": {name: orjson.Fragment(array_text(array)) for name, array in results.items()}
            }
        else:
            profile = self.profile() if self._asks_for_profile else None
            document = prediction.answer(results, as_tensors=self._has_tensors, profile=profile)
            for tensor in document["tensors"]:
                make_jsonable(tensor)
        return orjson.dumps(document), list(JSON_FIELDS), True

    def _failed(self, error: RequestError) -> tuple[bytes, Fields]:
        if self._has_feeds:
            return orjson.dumps({"result": error.message}), list(JSON_FIELDS)
        return orjson.dumps(prediction.failure(error.status, error.message)), list(JSON_FIELDS)


class GeneralModelRequest(_ServingRequest):
    """``/GeneralModelService/inference``: a document or a message of tensors."""

    __slots__ = ("_log_id",)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._log_id = 0

    async def answer_sole(self) -> None:
        """On the one model there is."""
        try:
            name = self._service.models.sole()
        except RequestError as error:
            self.note_refused(error, await self._send_refusal(error))
        else:
            await self.answer(name, None)

    @property
    def _is_proto(self) -> bool:
        media_type = self._headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        return media_type in (PROTO.encode(), b"application/x-protobuf")

    def _read(self, body: bytes, inputs: Sequence[TensorSpec]) -> InferRequest:
        refuse_texts((*inputs, *self.model.outputs))
        if self._is_proto:
            from ..protocol.general_model_message import read_message  # brings protobuf

            document = read_message(body)
        else:
            document = object_of(body)
        read = general_model.read_request(document)
        self._log_id = read.log_id
        return plain_request(read.inputs, read.fetch)

    def _write(self, request: InferRequest, results: Mapping[str, Array]) -> tuple[bytes, Fields, bool]:
        document = general_model.response(results, self.model.outputs, self._log_id)
        if self._is_proto:
            return (*self._message(document), False)
        for tensor in document["outputs"][0]["tensor"]:
            make_jsonable(tensor)
        return orjson.dumps(document), list(JSON_FIELDS), True

    def _failed(self, error: RequestError) -> tuple[bytes, Fields]:
        document = general_model.failure(error.status, error.message)
        if self._is_proto:
            return self._message(document)
        return orjson.dumps(document), list(JSON_FIELDS)

    def _message(self, document: Mapping[str, Any]) -> tuple[bytes, Fields]:
        from ..protocol.general_model_message import write_message

        return write_message(document), [(b"content-type", PROTO.encode())]
