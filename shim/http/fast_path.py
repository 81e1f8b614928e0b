"""Lets the connection itself answer small inference requests, without ASGI and without a task.

For a small model, uvicorn's cycle, ASGI's messages and a task are most of a request's cost. Requests that are
not plain and small go through the application; the headers decide.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

import orjson

from ..protocol.body import Headers, accepted_encoding, compressed
from ..protocol.buffered_bytes import HeldBytes
from ..protocol.errors import RequestError, ServerEnded, to_request_error
from ..protocol.request import InferRequest, has_binary, parse_request
from ..protocol.response import encode_response, is_long_response, result_bytes
from ..service.model_use import ModelUse
from ..service.served_models import ServedModel
from ..service.served_request import ServedRequest
from ..service.service import Service

if TYPE_CHECKING:
    from ..service.request_spans import HttpSpan

Given = TypeVar("Given")

__all__ = ["Connection", "FastPathRequest", "asked_model", "fast_path_model", "longest_body_bytes"]

_log = logging.getLogger("paddleinfer.http")

MAX_BYTES: Final = 64 << 10
"""The largest body. A larger one is read through ASGI, where the client sends no faster than it is read."""

_PATH = re.compile(rb"/v2/models/([A-Za-z0-9._-]+)(?:/versions/([A-Za-z0-9._-]+))?/infer")
# Headers that ask for more than a plain answer to a plain body.
_FURTHER = frozenset({b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"})
_MOST_DIGITS: Final = 10
_JSON = b"content-type: application/json\r\n"


class Connection(Protocol):
    """The part of a connection that a request needs."""

    def write_response(self, head: bytes, body: bytes | bytearray, keep_alive: bool) -> None:
        """Writes a whole response: status line, fields, body. Without `keep_alive` it ends the connection."""

    @property
    def address(self) -> str | None:
        """The client's address, if it has one."""

    def when_sent(self, call: Callable[[], None]) -> None:
        """Calls a function when the client has taken the response, or is gone."""

    def on_response_complete(self) -> None:
        """Lets the next request come."""


class AskedModel(NamedTuple):
    """What the path of a request names."""

    name: str
    version: str | None

    @property
    def route(self) -> str:
        """The path, with placeholders for what it names."""
        return "/v2/models/{model}" + ("/infer" if self.version is None else "/versions/{version}/infer")


def asked_model(service: Service, url: bytes, headers: Headers) -> AskedModel | None:
    """Returns which model a POST with this head asks for, if FastPathRequest can serve it."""
    match = _PATH.fullmatch(url)
    if match is None:
        return None
    # The application refuses a length that is not a number of bytes.
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or len(length) > _MOST_DIGITS or int(length) > longest_body_bytes(service):
        return None
    if not (_FURTHER.isdisjoint(headers) and service.allows(headers)):
        return None
    if headers[b"host"] not in service.hosts:
        return None
    return AskedModel(match[1].decode(), None if match[2] is None else match[2].decode())


def longest_body_bytes(service: Service) -> int:
    """The size of the largest body that FastPathRequest takes."""
    return min(MAX_BYTES, service.options.max_body_bytes, service.options.max_json_bytes)


def fast_path_model(service: Service, asked: AskedModel) -> ServedModel | None:
    """Returns the model, if FastPathRequest can serve it now."""
    if not service.inference.has_room:
        return None
    try:
        model = service.models.choose(*asked)
    except RequestError:
        return None
    return None if model.is_service else model  # a service needs a task


class FastPathRequest(ServedRequest):
    """A request on the fast path.

    It drives the engine's coroutine, which awaits one future, as a task would. For uvicorn it stands for the
    connection's cycle, for the event that tells a cycle that its client has left, and for a task that can be
    cancelled.
    """

    __slots__ = (
        *(
            "_body",
            "_connection",
            "_future",
            "_headers",
            "_held",
            "_is_json",
            "_request",
            "_running",
            "_tasks",
        ),
        *("_asked", "_holds", "_models", "_use"),
        *("disconnected", "keep_alive", "response_complete"),
    )

    def __init__(
        self,
        connection: Connection,
        tasks: set[Any],
        service: Service,
        asked: AskedModel,
        model: ServedModel,
        headers: Headers,
        span: HttpSpan | None = None,
    ) -> None:
        super().__init__(service.inference, span)
        self.model = model
        self._models = service.models
        self._asked = asked
        self._holds = False
        self._use: ModelUse | None = None
        """The use of a model that was not loaded as the request came."""
        self._connection = connection
        self._tasks = tasks
        self._headers = headers
        self._body = b""
        self._is_json = False
        self._request: InferRequest | None = None
        self._running: Coroutine[Any, Any, Any] | None = None
        self._future: asyncio.Future[Any] | None = None
        self._held: HeldBytes | None = None
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        tasks.add(self)

    def client_address(self) -> str | None:
        """The address of the connection's client."""
        return self._connection.address

    # Calls by the connection

    def add(self, part: bytes) -> None:
        """Adds a piece of the body."""
        self._body = self._body + part if self._body else part

    def run(self) -> None:
        """Runs the request: its body is whole."""
        if self.response_complete:
            return
        try:
            self.serve(self.model)
            self.begin()
        except Exception as error:
            self._refuse(error)
            return
        self._inference.turns.call(len(self._body), self._infer)

    def _infer(self) -> None:
        if self.response_complete:  # the client has left, or the server has ended
            return
        try:
            if self.model.dropped:  # meanwhile another version may have taken its place
                self.serve(self._models.choose(*self._asked))
            self._holds = self.model.hold()
            if self._holds:
                engine = self.model.open_engine()
                self._request = parse_request(self._body, self._headers, engine.inputs)
                self._running = self.ask(engine, self._request)
            else:
                self._use = self._models.use(self.model)
                self._request = parse_request(self._body, self._headers, self.model.inputs)
                self._running = self._ask_once_loaded(self._use, self._request)
        except Exception as error:
            self._refuse(error)
            return
        self._step(None)

    async def _ask_once_loaded(self, use: ModelUse, request: InferRequest) -> Any:
        left_s = await use.loaded(request.timeout_s)
        return await self.ask(self.model.open_engine(), request, left_s)

    @property
    def message_event(self) -> FastPathRequest:
        """The event that uvicorn sets when the client has left: the request itself."""
        return self

    def set(self) -> None:
        """Gives the request up: the client has left."""
        if not self.response_complete:
            _log.debug("a client of %s left before it was answered", self.model.label)
            self._leave()
            self.release()
            self.note_left()

    def cancel(self, msg: Any = None) -> None:
        """Cuts the request: the server waits no longer, and uvicorn is cancelling its tasks."""
        asyncio.get_running_loop().call_soon(self._cut)

    def _cut(self) -> None:
        if not self.response_complete:
            self.note_cut()
            self.keep_alive = False
            self._refuse(ServerEnded())

    # Calls by the engine

    def _step(self, ended: asyncio.Future[Any] | None) -> None:
        running = self._running
        if running is None:  # given up meanwhile
            if ended is not None and not ended.cancelled():
                ended.exception()  # marks the exception as seen
            return
        try:
            future = running.send(None)
        except StopIteration as end:
            self._succeed(end.value)
        except BaseException as error:
            self._refuse(error)
        else:
            # A task does the same: a future may be awaited by one only.
            future._asyncio_future_blocking = False
            self._future = future
            future.add_done_callback(self._step)

    def _succeed(self, results: Any) -> None:
        assert self._request is not None
        results = self.deliver(self._request, results)
        given = (self.model.name, self.model.version, self._request, results)
        size_bytes = result_bytes(results)
        if size_bytes > MAX_BYTES:  # it may be written or compressed elsewhere
            self._held = self._inference.results.of_one()
            try:
                self._held.resize(size_bytes)
            except RequestError as error:
                self._refuse(error)
                return
        if is_long_response(self._request, size_bytes):
            self._go_on_after(self.work(size_bytes, True, encode_response, *given), self._encoded)
            return
        self._inference.turns.call(size_bytes, partial(self._encode, *given))

    def _encode(self, model: str, version: str, request: InferRequest, results: Any) -> None:
        if self.response_complete:
            return
        try:
            written = encode_response(model, version, request, results)
        except Exception as error:
            self._refuse(error)
            return
        self._encoded(written)

    def _encoded(self, written: tuple[bytes | bytearray, int | None]) -> None:
        payload, json_bytes = written
        fields = _JSON
        if json_bytes is not None:
            fields = (
                b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n"
                % json_bytes
            )
        encoding = accepted_encoding(self._headers, len(payload))
        self._is_json = json_bytes is None and not has_binary(self._headers)
        if encoding is None:
            self._answer_result(fields, payload)
        else:
            self._go_on_after(self._compress(payload, encoding, fields), self._compressed)

    async def _compress(
        self, payload: bytes | bytearray, encoding: str, fields: bytes
    ) -> tuple[bytes, bytes]:
        return fields + b"content-encoding: %b\r\n" % encoding.encode(), await compressed(payload, encoding)

    def _compressed(self, written: tuple[bytes, bytes]) -> None:
        self._answer_result(*written)

    def _go_on_after(self, work: Coroutine[Any, Any, Given], go_on: Callable[[Given], None]) -> None:
        """Calls `go_on` with the future's result, unless the request is over before."""

        def done(task: asyncio.Future[Given]) -> None:
            if task.cancelled():
                return
            error = task.exception()
            if self.response_complete:
                return
            if error is not None:
                self._refuse(error)
            else:
                go_on(task.result())

        self._running = None
        self._future = asyncio.ensure_future(work)
        self._future.add_done_callback(done)

    # Answers to the client

    def _answer_result(self, fields: bytes, payload: bytes | bytearray) -> None:
        self.note_encoded()
        self._answer(b"HTTP/1.1 200 OK\r\n" + fields, payload)
        self.note_sent(self._is_json)

    def _refuse(self, error: BaseException) -> None:
        refused = to_request_error(error)
        if refused.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("a request to %s failed", self.model.label, exc_info=error)
        fields = "".join(f"{name.lower()}: {value}\r\n" for name, value in refused.headers.items())
        line = f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}\r\n"
        self._answer(line.encode() + _JSON + fields.encode(), orjson.dumps({"error": refused.message}))
        self.note_refused(error, refused.status)

    def _answer(self, head: bytes, body: bytes | bytearray) -> None:
        self._leave()
        self._connection.write_response(head, body, self.keep_alive)
        self._connection.when_sent(self.release)
        self._connection.on_response_complete()

    def _leave(self) -> None:
        """Ends the request, and gives up what still runs of it."""
        self.response_complete = True
        self._tasks.discard(self)
        if self._held is not None:
            self._held.release()
        running, self._running = self._running, None
        future, self._future = self._future, None
        if future is not None and not future.done():
            future.cancel()
        if running is not None:
            running.close()
        if self._holds:
            self._holds = False
            self.model.let_go()
        if self._use is not None:
            self._use.end()
