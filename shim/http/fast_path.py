"""Inference requests that the connection answers itself: no ASGI, no task.

For a small model, uvicorn's cycle, ASGI's messages and a task are most of what a request costs. Whatever is
not plain and small goes the way through the application; which way is known when the headers are there.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Coroutine
from http import HTTPStatus
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, Protocol

import orjson

from .body import Headers, accepted_encoding, compressed
from .errors import RequestError, ServerEnded, status_of
from .infer_request import InferRequest, has_binary, parse_request
from .infer_response import encode_response
from .models import VERSION, ServedModel
from .service import Service
from .stage_log import ServedTimes

if TYPE_CHECKING:
    from paddleinfer.explanation import InferInfo

    from .request_spans import HttpSpan

__all__ = ["Connection", "Direct", "direct_model"]

_log = logging.getLogger("paddleinfer.http")

MAX_BYTES: Final = 64 << 10
"""Of a body. A larger one is read through ASGI, which lets the client send no faster than it is read."""

_PATH = re.compile(rb"/v2/models/([A-Za-z0-9._-]+)/infer")
# What asks for more than a plain answer to a plain body.
_FURTHER = frozenset({b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"})
_JSON = b"content-type: application/json\r\n"


class Connection(Protocol):
    """What a request needs of its connection."""

    def write_response(self, head: bytes, body: bytes, keep_alive: bool) -> None:
        """A whole response: status line, fields, body. Without `keep_alive` the connection ends with it."""

    def on_response_complete(self) -> None:
        """The next request may come."""


def direct_model(service: Service, url: bytes, headers: Headers) -> ServedModel | None:
    """The model that a POST asks, if it is one for Direct."""
    match = _PATH.fullmatch(url)
    if match is None:
        return None
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or int(length) > min(MAX_BYTES, service.options.max_body_bytes):
        return None
    if headers.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    if not (_FURTHER.isdisjoint(headers) and service.allows(headers) and service.inference.has_room):
        return None
    try:
        return service.models.get(match[1].decode())
    except RequestError:
        return None


class Direct:
    """One such request.

    It drives the engine's coroutine, which awaits one future, as a task would. To uvicorn it is the
    connection's cycle, the event that tells a cycle that its client has left, and a task that can be
    cancelled.
    """

    __slots__ = (
        *("_body", "_connection", "_future", "_headers", "_inference", "_model", "_request", "_running"),
        *("_began_ns", "_decoded_ns", "_delivered_ns", "_info", "_json", "_received_ns", "_span", "_tasks"),
        *("disconnected", "keep_alive", "response_complete"),
    )

    def __init__(
        self,
        connection: Connection,
        tasks: set[Any],
        service: Service,
        model: ServedModel,
        headers: Headers,
        span: HttpSpan | None = None,
    ) -> None:
        self._began_ns = monotonic_ns()
        self._span = span
        self._info: InferInfo | None = None
        self._received_ns = self._decoded_ns = self._delivered_ns = 0
        self._connection = connection
        self._tasks = tasks
        self._inference = service.inference
        self._model = model
        self._headers = headers
        self._body = b""
        self._json = False
        self._request: InferRequest | None = None
        self._running: Coroutine[Any, Any, Any] | None = None
        self._future: asyncio.Future[Any] | None = None
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        tasks.add(self)
        self._inference.begin()

    # What comes from the connection

    def add(self, part: bytes) -> None:
        """A piece of the body."""
        self._body = self._body + part if self._body else part

    def begin(self) -> None:
        """The body is whole."""
        if self.response_complete:
            return
        self._received_ns = monotonic_ns()
        if self._span is not None:
            self._span.serve(self._model)
        try:
            engine = self._model.open_engine()
            request = self._request = parse_request(self._body, self._headers, engine.inputs)
            self._decoded_ns = monotonic_ns()
            names = None if request.outputs is None else [output.name for output in request.outputs]
            self._running = engine.ainfer(
                request.inputs,
                timeout=request.timeout_s,
                outputs=names,
                priority=request.priority,
                return_info=self._span is not None,
            )
        except Exception as error:
            self._refuse(error)
            return
        self._step(None)

    @property
    def message_event(self) -> Direct:
        """uvicorn sets it when the client has left."""
        return self

    def set(self) -> None:
        """The client has left."""
        if not self.response_complete:
            _log.debug("a client of %s left before it was answered", self._model.name)
            self._leave()
            if self._span is not None:
                self._span.leave()

    def cancel(self, msg: Any = None) -> None:
        """The server ends and waits no longer; uvicorn is just going through its tasks."""
        asyncio.get_running_loop().call_soon(self._cut)

    def _cut(self) -> None:
        if not self.response_complete:
            self._inference.cut += 1
            self.keep_alive = False
            self._refuse(ServerEnded())

    # What comes from the engine

    def _step(self, ended: asyncio.Future[Any] | None) -> None:
        running = self._running
        if running is None:  # given up meanwhile
            if ended is not None and not ended.cancelled():
                ended.exception()  # has been seen
            return
        try:
            future = running.send(None)
        except StopIteration as end:
            self._succeed(end.value)
        except BaseException as error:
            self._refuse(error)
        else:
            # As a task does it: the future may be awaited by one.
            future._asyncio_future_blocking = False
            self._future = future
            future.add_done_callback(self._step)

    def _succeed(self, results: Any) -> None:
        assert self._request is not None
        self._delivered_ns = monotonic_ns()
        if self._span is not None:
            results, self._info = results
        try:
            payload, json_bytes = encode_response(self._model.name, VERSION, self._request, results)
        except Exception as error:
            self._refuse(error)
            return
        fields = _JSON
        if json_bytes is not None:
            fields = (
                b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n"
                % json_bytes
            )
        encoding = accepted_encoding(self._headers, len(payload))
        self._json = json_bytes is None and not has_binary(self._headers)
        self._model.stage_log.look_at(self._request.inputs, results)
        if encoding is None:
            self._answer_result(fields, payload)
        else:
            self._running = None
            self._future = asyncio.ensure_future(self._compress(payload, encoding, fields))
            self._future.add_done_callback(self._compressed)

    async def _compress(self, payload: bytes, encoding: str, fields: bytes) -> tuple[bytes, bytes]:
        return fields + b"content-encoding: %b\r\n" % encoding.encode(), await compressed(payload, encoding)

    def _compressed(self, task: asyncio.Future[tuple[bytes, bytes]]) -> None:
        if self.response_complete or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._refuse(error)
            return
        self._answer_result(*task.result())

    # What goes to the client

    def _answer_result(self, fields: bytes, payload: bytes) -> None:
        encoded_ns = monotonic_ns()
        self._model.latencies.add((encoded_ns - self._received_ns) / 1e9)
        self._answer(b"HTTP/1.1 200 OK\r\n" + fields, payload)
        instants = (self._began_ns, self._received_ns, self._decoded_ns, self._delivered_ns, encoded_ns)
        times = ServedTimes(*instants, monotonic_ns(), self._json)
        self._model.stage_log.note(times)
        if self._span is not None:
            self._span.answered(self._info, times)

    def _refuse(self, error: BaseException) -> None:
        refused = error if isinstance(error, RequestError) else status_of(error)
        if refused.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("a request to %s failed", self._model.name, exc_info=error)
        fields = "".join(f"{name.lower()}: {value}\r\n" for name, value in refused.headers.items())
        line = f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}\r\n"
        self._answer(line.encode() + _JSON + fields.encode(), orjson.dumps({"error": refused.message}))
        if self._span is not None:
            self._span.refused(error, refused.status)

    def _answer(self, head: bytes, body: bytes) -> None:
        self._leave()
        self._connection.write_response(head, body, self.keep_alive)
        self._connection.on_response_complete()

    def _leave(self) -> None:
        """It is over; what still runs of it is given up."""
        self.response_complete = True
        self._inference.end()
        self._tasks.discard(self)
        running, self._running = self._running, None
        future, self._future = self._future, None
        if future is not None and not future.done():
            future.cancel()
        if running is not None:
            running.close()
