"""A service as Paddle Serving's clients of pipelines ask it: keys and values both ways."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import numpy.typing as npt

from paddleinfer.errors import InvalidInput, ServiceError
from paddleinfer.serve.request import Request
from paddleinfer.serve.service import Service
from paddleinfer.serving.formats.pipeline import (
    PipelineRequest,
    PipelineResponse,
    document_of,
    read_document,
    values_of,
)
from paddleinfer.serving.formats.prediction import failure, is_feed_form

from ..protocol.errors import to_request_error
from ..protocol.service_body import write_answer

__all__ = ["ServicePipeline"]

_log = logging.getLogger("paddleinfer.serve")


class ServicePipeline:
    """Hands a service a dict of texts and arrays, and answers with what its ``prediction`` gives."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def read(self, document: Mapping[str, Any], name: str, method: str) -> dict[str, Any]:
        """The service's value, of a document over HTTP; raises InvalidInput."""
        if is_feed_form(document):
            raise InvalidInput(
                f'the service {name!r} takes "key" and "value", or "tensors", not "feed" and "fetch"'
            )
        return _value_of(read_document(document, name, method))

    def write(self, answer: Any) -> dict[str, Any]:
        """The document of the service's answer."""
        return document_of(self._response(answer))

    def refusal(
        self, error: BaseException, status: int, sentence: str, *, is_real: bool
    ) -> tuple[int, dict[str, Any]]:
        """The status and the document of a request that failed."""
        return status if is_real else int(HTTPStatus.OK), failure(status, sentence)

    async def answer(self, request: PipelineRequest, *, timeout: float | None = None) -> PipelineResponse:
        """The response, also to a request that fails. `timeout` is in seconds."""
        try:
            asked = Request(decode=lambda: _value_of(request))
            response = await self.service.acall(asked, timeout=timeout, finish=self._response)
        except Exception as error:
            refused = to_request_error(error)
            if refused.status == HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, ServiceError):
                _log.error("a request to the service %s failed", self.service.name, exc_info=error)
            said = failure(refused.status, refused.message)
            return PipelineResponse(said["err_no"], said["err_msg"])
        assert isinstance(response, PipelineResponse)
        return response

    def _response(self, answer: Any) -> PipelineResponse:
        texts = {str(key): _text_of(value) for key, value in self.service.prediction(answer).items()}
        return PipelineResponse(keys=list(texts), values=list(texts.values()))


def _value_of(request: PipelineRequest) -> dict[str, str | npt.NDArray[Any]]:
    """Each text and each array by its name."""
    if not request.keys and not request.tensors:
        raise InvalidInput('the request needs "key" and "value", or "tensors"; it has neither')
    return values_of(request)


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else write_answer(value).body.decode()
