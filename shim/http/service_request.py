"""Requests to a service through the application: of any type and size."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from paddleinfer.errors import ServiceError
from paddleinfer.sentences import shown
from paddleinfer.serve.limits import ServiceLimits
from paddleinfer.serve.request import Request

from ..protocol.body import (
    BodyLimit,
    ClientGone,
    Headers,
    Receive,
    Send,
    accepted_encoding,
    compressed,
    read_body,
)
from ..protocol.checks import priority_of
from ..protocol.errors import RequestError, ServerEnded, bad_request, to_request_error
from ..protocol.service_body import JSON, WrittenAnswer, media_type_of, value_of, write_answer
from ..service.origins import check_same_site
from ..service.service import Service
from ..service.services import ServedService
from .answers import answer, error_answer
from .client_watch import ClientWatch

if TYPE_CHECKING:
    from ..service.request_spans import HttpSpan

__all__ = ["ServiceRequest"]

_log = logging.getLogger("paddleinfer.http")

_TIMEOUT: Final = b"paddleinfer-timeout-us"
_PRIORITY: Final = b"paddleinfer-priority"
_MOST_DIGITS: Final = 15
_MOST_QUERY_BYTES: Final = 8192
_MOST_PARAMETERS: Final = 100


class ServiceRequest:
    """One request; `headers` in lower case."""

    def __init__(
        self,
        name: str,
        service: Service,
        watch: ClientWatch,
        headers: Headers,
        query: bytes,
        receive: Receive,
        send: Send,
        span: HttpSpan | None,
    ) -> None:
        self._began_ns = self._received_ns = monotonic_ns()
        self._span = span
        self._name = name
        self._service = service
        self._inference = service.inference
        self._watch = watch
        self._headers = headers
        self._query = query
        self._receive = receive
        self._send = send
        self._has_answer = False

    async def answer(self) -> None:
        """Reads it, asks the service, and sends the answer or the error."""
        try:
            await self._answer()
        except ClientGone:
            _log.debug("a client of the service %s left before it was answered", shown(self._name))
        except asyncio.CancelledError:
            self._inference.cut += 1
            if self._has_answer or not self._service.draining:
                raise
            await self._refuse(ServerEnded())
        except Exception as error:
            if self._has_answer:
                if self._span is not None:
                    self._span.fail(error)
                raise
            await self._refuse(error)
        finally:
            if self._span is not None:
                self._span.leave()

    async def _refuse(self, error: BaseException) -> None:
        refused = self._refused(error)
        status = await self._send_refusal(error, refused)
        if self._span is not None:
            self._span.refused(error, status)

    def _refused(self, error: BaseException) -> RequestError:
        """What its client may know of an error; the log has what it may not."""
        refused = to_request_error(error)
        if refused.status == HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, ServiceError):
            _log.error("a request to the service %s failed", shown(self._name), exc_info=error)
        return refused

    async def _answer(self) -> None:
        served = self._service.services.get(self._name)
        if self._span is not None:
            self._span.tell({"paddleinfer.service.name": self._name})
        check_same_site(self._headers, self._service.hosts)
        timeout_s, priority, query = self._timeout_s(), self._priority(), self._parameters()
        content_type = self._headers.get(b"content-type", b"").decode("latin-1")
        self._inference.check_room()
        with self._inference.bodies.of_one() as held:
            body = await read_body(self._receive, self._headers, self._limit(content_type), held)
            self._received_ns = monotonic_ns()
            self._inference.begin()
            try:
                written = await self._ask(served, body, content_type, query, timeout_s, priority)
                del body
                await self._send_written(written, served)
            finally:
                self._inference.end()

    def _limit(self, content_type: str) -> BodyLimit:
        limits = self._service.limits
        if media_type_of(content_type) == JSON and limits.max_json_bytes < limits.max_body_bytes:
            return BodyLimit(limits.max_json_bytes, "--max-json-bytes")
        return BodyLimit(limits.max_body_bytes, "--max-body-bytes")

    def _timeout_s(self) -> float | None:
        text = self._headers.get(_TIMEOUT)
        if text is None:
            return None
        if not text.isdigit() or len(text) > _MOST_DIGITS or int(text) == 0:
            raise bad_request(
                f"Paddleinfer-Timeout-Us must be a number of microseconds from 1 up, "
                f"not {shown(text.decode('latin-1'))}"
            )
        return int(text) / 1e6

    def _priority(self) -> int:
        text = self._headers.get(_PRIORITY, b"0")
        if not text.isdigit() or len(text) > _MOST_DIGITS:
            raise bad_request(
                "Paddleinfer-Priority must be 1, the most urgent, 2, the default, or more, "
                f"not {shown(text.decode('latin-1'))}"
            )
        return priority_of({"priority": int(text)})

    def _parameters(self) -> Mapping[str, str]:
        if not self._query:
            return {}
        if len(self._query) > _MOST_QUERY_BYTES:
            raise bad_request(f"the query is longer than {_MOST_QUERY_BYTES} bytes")
        try:
            pairs = parse_qsl(
                self._query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS
            )
        except ValueError:
            raise bad_request(f"the query has more than {_MOST_PARAMETERS} parameters") from None
        return dict(pairs)

    async def _ask(
        self,
        served: ServedService,
        body: bytes,
        content_type: str,
        query: Mapping[str, str],
        timeout_s: float | None,
        priority: int,
    ) -> WrittenAnswer:
        service = served.service
        request = Request(
            body=body,
            media_type=media_type_of(content_type),
            headers={
                name.decode("latin-1"): value.decode("latin-1") for name, value in self._headers.items()
            },
            query=query,
            decode=partial(self._read, body, content_type, service.calls.limits),
            priority=priority,
        )
        observing = contextlib.nullcontext() if self._span is None else self._span.observing()
        with self._watch.over(self._receive), observing:
            written: Any = await service.acall(request, timeout=timeout_s, finish=self._write)
        assert isinstance(written, WrittenAnswer)
        return written

    async def _send_written(self, written: WrittenAnswer, served: ServedService) -> None:
        payload: bytes = written.body
        with self._inference.results.of_one() as held:
            held.resize(len(payload))
            fields = [(b"content-type", written.media_type.encode("latin-1")), *written.headers]
            accepted = accepted_encoding(self._headers, len(payload))
            if accepted is not None:
                payload = await compressed(payload, accepted)
                fields.append((b"content-encoding", accepted.encode()))
        written_ns = monotonic_ns()
        served.latencies.add((written_ns - self._received_ns) / 1e9)
        self._has_answer = True
        await answer(self._send, written.status, payload, fields)
        if self._span is not None:
            receive, send = (self._began_ns, self._received_ns), (written_ns, monotonic_ns())
            self._span.answered_by_service(written.status, [("receive", *receive), ("send", *send)])

    # The form of requests and answers

    def _read(self, body: bytes, content_type: str, limits: ServiceLimits) -> Any:
        """What the service is asked; runs where its functions do."""
        return value_of(body, content_type, limits)

    def _write(self, answer: Any) -> WrittenAnswer:
        """The same the other way."""
        return write_answer(answer)

    async def _send_refusal(self, error: BaseException, refused: RequestError) -> int:
        """Answers without a result (what went wrong, what the client may know of it); returns the status."""
        await error_answer(self._send, refused)
        return refused.status
