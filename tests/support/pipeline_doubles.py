"""Pipelines for tests of what is around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paddleinfer.serve import Service
from paddleinfer.serving.formats.pipeline import (
    PipelineRequest,
    PipelineResponse,
    document_of,
    read_document,
)


class EchoPipeline:
    """Answers what it was asked, or fails in one way; ``seen`` is what it was asked."""

    def __init__(self, err_no: int = 0, err_msg: str = "", raises: Exception | None = None) -> None:
        self.service = Service(handle=lambda request, engines: self._response(request.value))
        self.seen: list[PipelineRequest] = []
        self._failure = (err_no, err_msg)
        self._raises = raises

    async def answer(self, request: PipelineRequest, *, timeout: float | None = None) -> PipelineResponse:
        return self._response(request)

    def read(self, document: Mapping[str, Any], name: str, method: str) -> PipelineRequest:
        return read_document(document, name, method)

    def write(self, answer: PipelineResponse) -> dict[str, Any]:
        return document_of(answer)

    def refusal(
        self, error: BaseException, status: int, sentence: str, *, is_real: bool
    ) -> tuple[int, dict[str, Any]]:
        return status if is_real else 200, document_of(PipelineResponse(10000, sentence))

    def __enter__(self) -> EchoPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.service.close()

    def _response(self, request: PipelineRequest) -> PipelineResponse:
        self.seen.append(request)
        if self._raises is not None:
            raise self._raises
        err_no, err_msg = self._failure
        if err_no:
            return PipelineResponse(err_no, err_msg)
        return PipelineResponse(keys=request.keys, values=request.values, tensors=request.tensors)
