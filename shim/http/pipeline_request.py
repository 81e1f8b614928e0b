"""Requests to a pipeline or a web service of Paddle Serving's, answered as its servers answer them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from paddleinfer.serve.limits import ServiceLimits
from paddleinfer.serving.formats.pipeline import Pipeline, PipelineFailure

from ..protocol.body import BodyLimit
from ..protocol.errors import RequestError
from ..protocol.service_body import JSON, WrittenAnswer
from ..protocol.serving_json import object_of, write_document
from .answers import JSON_FIELDS, answer
from .paddle_serving import IN_THE_ANSWER
from .service_request import ServiceRequest

__all__ = ["PipelineHttpRequest"]


class PipelineHttpRequest(ServiceRequest):
    """``/{name}/{method}``: keys and values, tensors, or feeds, of any Content-Type."""

    def __init__(self, pipeline: Pipeline, method: str, name: str, *given: Any) -> None:
        super().__init__(name, *given)
        self._pipeline = pipeline
        self._method = method

    def _limit(self, content_type: str) -> BodyLimit:
        return super()._limit(JSON)

    def _read(self, body: bytes, content_type: str, limits: ServiceLimits) -> Any:
        return self._pipeline.read(object_of(body), self._name, self._method)

    def _write(self, answer: Any) -> WrittenAnswer:
        return WrittenAnswer(HTTPStatus.OK, JSON, write_document(self._pipeline.write(answer)))

    def _refused(self, error: BaseException) -> RequestError:
        if isinstance(error, PipelineFailure):  # which its pipeline has logged
            return RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        return super()._refused(error)

    async def _send_refusal(self, error: BaseException, refused: RequestError) -> int:
        if refused.status not in IN_THE_ANSWER:
            return await super()._send_refusal(error, refused)
        status, document = self._pipeline.refusal(
            error, refused.status, refused.message, is_real=self._service.options.http_status == "real"
        )
        fields = list(JSON_FIELDS)
        fields += [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
        await answer(self._send, status, write_document(document), fields)
        return status
