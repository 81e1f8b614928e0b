"""Serves inference requests through the application: of any size, in pieces, compressed, with any answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from paddleinfer.models.reader import TensorSpec
from paddleinfer.sentences import shown

from ..protocol.body import ClientGone, Headers, Receive, Send, accepted_encoding, compressed, read_body
from ..protocol.errors import RequestError, ServerEnded, to_request_error
from ..protocol.request import InferRequest, has_binary, parse_request
from ..protocol.response import encode_response, is_long_response, result_bytes
from ..service.model_use import ModelUse
from ..service.origins import check_same_site
from ..service.served_models import ServedModel
from ..service.served_request import ServedRequest
from ..service.service import Service
from .answers import JSON_FIELDS, answer, error_answer
from .client_watch import ClientWatch

if TYPE_CHECKING:
    from ..service.request_spans import HttpSpan

__all__ = ["AsgiRequest"]

_log = logging.getLogger("paddleinfer.http")


Fields = list[tuple[bytes, bytes]]


class AsgiRequest(ServedRequest):
    """One inference request; `headers` in lower case.

    Other protocols over HTTP derive theirs, which read, write and refuse in another form.
    """

    __slots__ = ("_address", "_has_answer", "_headers", "_receive", "_send", "_service", "_watch")

    def __init__(
        self,
        service: Service,
        watch: ClientWatch,
        address: str | None,
        headers: Headers,
        receive: Receive,
        send: Send,
        span: HttpSpan | None,
    ) -> None:
        super().__init__(service.inference, span)
        self._service = service
        self._watch = watch
        self._address = address
        self._headers = headers
        self._receive = receive
        self._send = send
        self._has_answer = False

    def client_address(self) -> str | None:
        """The client's address, from the connection or from a proxy."""
        return self._address

    async def answer(self, name: str, version: str | None) -> None:
        """Reads the request, runs it on this model, and sends the results or the error."""
        try:
            await self._serve(name, version)
        except ClientGone:
            _log.debug("a client of %s left before it was answered", shown(name))
        except asyncio.CancelledError:
            self.note_cut()
            if self._has_answer or not self._service.draining:
                raise
            await self._refuse(name, ServerEnded())
        except Exception as error:
            if self._has_answer:
                if self.span is not None:
                    self.span.fail(error)
                raise
            await self._refuse(name, error)
        finally:
            self.note_left()

    def _chosen(self, name: str, version: str | None) -> ServedModel:
        return self._service.models.choose(name, version)

    async def _serve(self, name: str, version: str | None) -> None:
        self.serve(self._chosen(name, version))
        if self.model.is_service:
            check_same_site(self._headers, self._service.hosts)
        self._inference.check_room()
        self.model.check_accepts()  # otherwise the body need not come
        with self._inference.bodies.of_one() as held:
            limit = self._service.limits.of_body(self._headers)
            body = await read_body(self._receive, self._headers, limit, held)
            try:
                self.begin()
                if self.model.dropped:  # meanwhile another version may have taken its place
                    self.serve(self._chosen(name, version))
                with self._service.models.use(self.model) as use:
                    answering = self._run(body, use)
                    del body  # the arrays hold the part that they need
                    written = await answering
                await self._send_written(*written)
            finally:
                self.release()

    async def _run(self, body: bytes, use: ModelUse) -> tuple[bytes | bytearray, Fields, bool]:
        """Returns the answer's body, its headers, and whether it has no binary tensors."""
        with self._watch.over(self._receive):
            inputs = self.model.inputs  # meanwhile another engine may have taken its place
            is_long = self._service.limits.is_long(body, self._headers)
            decoding = self.work(len(body), is_long, self._read, body, inputs)
            del body
            request = await decoding
            results = await self.infer(request, await use.loaded(request.timeout_s))
        with self._inference.results.of_one() as held:
            held.resize(size_bytes := result_bytes(results))
            with self._watch.over(self._receive):
                is_long = is_long_response(request, size_bytes)
                encoding = self.work(size_bytes, is_long, self._write, request, results)
                del results
                payload, fields, is_json = await encoding
            accepted = accepted_encoding(self._headers, len(payload))
            if accepted is not None:
                payload = await compressed(payload, accepted)
                fields.append((b"content-encoding", accepted.encode()))
        self.note_encoded()
        return payload, fields, is_json

    async def _send_written(self, payload: bytes | bytearray, fields: Fields, is_json: bool) -> None:
        await self._send_answer(payload, fields)
        self.note_sent(is_json=is_json and not has_binary(self._headers))

    async def _send_answer(self, payload: Any, fields: list[tuple[bytes, bytes]]) -> None:
        self._has_answer = True
        await answer(self._send, HTTPStatus.OK, payload, fields)

    async def _refuse(self, name: str, error: BaseException) -> None:
        refused = to_request_error(error)
        if refused.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("a request to %s failed", shown(name), exc_info=error)
        status = await self._send_refusal(refused)
        self.note_refused(error, status)

    # The form of requests and answers

    def _read(self, body: bytes, inputs: Sequence[TensorSpec]) -> InferRequest:
        """Reads what a body asks of a model with these inputs."""
        return parse_request(body, self._headers, inputs)

    def _write(
        self, request: InferRequest, results: Mapping[str, Any]
    ) -> tuple[bytes | bytearray, Fields, bool]:
        """Returns the answer's body, its headers, and whether it has no binary tensors."""
        payload, json_bytes = encode_response(self.model.name, self.model.version, request, results)
        if json_bytes is None:
            return payload, list(JSON_FIELDS), True
        fields = [
            (b"content-type", b"application/octet-stream"),
            (b"inference-header-content-length", b"%d" % json_bytes),
        ]
        return payload, fields, False

    async def _send_refusal(self, error: RequestError) -> int:
        """Answers without a result, and returns the status."""
        await error_answer(self._send, error)
        return error.status
