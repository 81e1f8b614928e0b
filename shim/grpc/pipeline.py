"""Paddle Serving's ``PipelineService`` over gRPC: what its web services take under ``/{name}/{method}``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from paddleinfer.errors import DeadlineExceeded
from paddleinfer.sentences import listed
from paddleinfer.serving.formats import prediction
from paddleinfer.serving.formats.messages import PIPELINE_SERVICE
from paddleinfer.serving.formats.pipeline import Pipeline, document_of, read_document, status_of

from ..protocol.errors import RequestError
from ..protocol.large_json import SMALL_BYTES
from ..protocol.pipeline_message import read_message, write_message
from ..protocol.request import InferRequest, plain_request, refuse_texts
from ..protocol.serving_json import CountedJson
from .calls import Behaviour, Calls
from .rpc_request import RpcRequest

if TYPE_CHECKING:
    from paddleinfer.models.reader import TensorSpec

    from ..service.models import Models
    from ..service.service import Service
    from ..service.services import ServedService

__all__ = ["PipelineRequest", "pipeline_handlers"]

# A loop's timer goes by a clock of milliseconds, and may be early by one.
_TIMER_STEP_NS: Final = 2_000_000


def pipeline_handlers(calls: Calls, infer: Behaviour) -> Mapping[str, Any]:
    """Method -> its handler."""
    return {"inference": calls.unary("PipelineService/inference", infer)}


class PipelineRequest(RpcRequest):
    """A Request for a pipeline, or for a model, by its name; without one for the only pipeline or model."""

    __slots__ = ("_asks_for_profile", "_has_tensors", "_served", "_service")

    def __init__(self, service: Service, peer: Callable[[], str], body: bytes) -> None:
        super().__init__(service.inference, peer, body, in_stream=False)
        self._service = service
        self._served: ServedService | None = None
        self._has_tensors = self._asks_for_profile = False

    @property
    def method(self) -> str:
        """The service and method that it calls."""
        return f"{PIPELINE_SERVICE}/inference"

    async def answered(self, models: Models, remaining_s: float | None) -> bytes:
        """Returns the bytes of its answer."""
        is_long = self.size_bytes > SMALL_BYTES
        fields = await self.work(self.size_bytes, is_long, lambda: read_message(self.take_body()))
        name = fields.get("name") or self._sole()
        pipeline = self._service.pipelines.get(name)
        if pipeline is not None:
            self._served = self._service.services.get(name)
            return await self._answered_by(pipeline, name, fields, remaining_s)
        self.use(models, self._service.model_of_prediction(name))
        inputs, outputs = self.model.inputs, self.model.outputs
        refuse_texts((*inputs, *outputs))
        reading = self.work(self.size_bytes, is_long, self._asked, fields, inputs, outputs)
        del fields
        asked = await reading
        return await self.encoded(asked, await self.infer(asked, remaining_s))

    def _sole(self) -> str:
        """The name of the only pipeline, which may have models beside it, or else of the only model."""
        pipelines, models = list(self._service.pipelines), self._service.models.names
        names = pipelines or models
        if len(names) == 1:
            return names[0]
        raise RequestError(
            HTTPStatus.NOT_FOUND,
            f"the request has no name, and the server has {listed(pipelines + models)}; say in name which",
        )

    # A pipeline

    async def _answered_by(
        self, pipeline: Pipeline, name: str, fields: dict[str, Any], remaining_s: float | None
    ) -> bytes:
        request = read_document(fields, name, fields.get("method", ""))
        del fields
        request.client_ip = request.client_ip or self.client_address() or ""
        begun_ns = self._decoded_ns = monotonic_ns()
        with contextlib.nullcontext() if self.span is None else self.span.observing():
            response = await pipeline.answer(request, timeout=remaining_s)
        del request
        ended_ns = self._delivered_ns = monotonic_ns()
        is_late = remaining_s is not None and ended_ns - begun_ns >= remaining_s * 1e9 - _TIMER_STEP_NS
        if (
            is_late and status_of(response.err_no) == HTTPStatus.GATEWAY_TIMEOUT
        ):  # and not that of an Op alone
            raise DeadlineExceeded(response.err_msg)
        if response.err_no and self._service.options.http_status == "real":
            raise RequestError(status_of(response.err_no), response.err_msg)
        document = document_of(response)
        del response
        size_bytes = sum(map(len, document["value"]))
        size_bytes += sum(_size_of(value) for tensor in document["tensors"] for value in tensor.values())
        return await self.written(size_bytes, size_bytes > SMALL_BYTES, partial(write_message, document))

    # A model

    def _asked(
        self, fields: dict[str, Any], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> InferRequest:
        self._asks_for_profile = prediction.asks_for_profile(fields)
        arrays, self._has_tensors = prediction.read_keys_and_values(fields, inputs, CountedJson().loads)
        return plain_request(arrays, [tensor.alias or tensor.name for tensor in outputs])

    def write(self, asked: InferRequest, results: Any) -> bytes:
        """Returns the bytes of a model's answer."""
        profile = self.profile() if self._asks_for_profile else None
        return write_message(prediction.answer(results, as_tensors=self._has_tensors, profile=profile))

    # Its end

    def note_encoded(self) -> None:
        """Notes that the answer is encoded."""
        if self._served is None:
            super().note_encoded()
        else:
            self._encoded_ns = monotonic_ns()
            self._served.latencies.add((self._encoded_ns - self._received_ns) / 1e9)

    def note_sent(self, is_json: bool = False) -> None:
        """Notes that the answer was passed on."""
        if self._served is None:
            super().note_sent(is_json)
        elif self.span is not None:
            self.span.answered(None, self._times(is_json))

    @staticmethod
    def failure(error: RequestError) -> bytes:
        """Returns the bytes of an answer without a result."""
        return write_message(prediction.failure(error.status, error.message))


def _size_of(value: Any) -> int:
    """About the bytes of a tensor's field."""
    return value.nbytes if hasattr(value, "nbytes") else len(value) if hasattr(value, "__len__") else 1
