"""Extends uvicorn's HTTP/1.1 protocol: finds requests' begins and ends; small ones take the fast path."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import httptools

from ..protocol.body import byte_count
from ..protocol.errors import RequestError, bad_request
from ..service.served_models import ServedModel
from .app import SENT
from .connection import HttpConnection
from .fast_path import AskedModel, FastPathRequest, asked_model, fast_path_model, longest_body_bytes
from .repeated_head import RepeatedHead
from .request_head import MAX_HEADERS, check_head, check_target

__all__ = ["MAX_HEADERS", "MAX_HEADER_BYTES", "HttpProtocol"]

MAX_HEADER_BYTES: Final = 64 << 10
"""The limit of the request line and the headers, and of trailers; one more piece may exceed it."""

# How much is parsed at once, so that no more than this of requests that wait for their turn is parsed.
_PIECE_BYTES: Final = 2 << 10
# How much is read behind waiting requests. Until then a client that leaves is noticed.
_AHEAD_BYTES: Final = 64 << 10


class HttpProtocol(HttpConnection):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._body_left = 0
        self._body_parts: list[bytes] = []  # the rest of the piece that is being read
        self._without_upgrade: bytes | None = None
        """The head of a request that asked for an upgrade, without that wish."""
        self._error: RequestError | None = None
        """The error that a callback of the parser found."""
        self._refusal: RequestError | None = None
        """The refusal of a request that came behind others, which are answered first; no more is read."""
        self._fast_path: FastPathRequest | None = None
        """The request whose body is arriving, if it takes the fast path."""
        self._head_taken: tuple[dict[bytes, bytes], AskedModel] | None = None
        """The headers and the model's name of the latest request that took the fast path."""
        self._latest_head: RepeatedHead | None = None
        """The head of that request, if it came in one piece."""
        self._default_fields: tuple[Any, bytes] = (None, b"")
        """The server's own header fields, and the bytes to send for them."""
        self._answering: Any = None
        """The cycle whose turn it is."""
        self._may_take_fast_path = (
            not self.config.access_log and not self.root_path and self.limit_concurrency is None
        )
        self._longest_body_bytes = longest_body_bytes(self._service)

    # -- what comes

    def data_received(self, data: bytes) -> None:
        """Takes a piece from the socket."""
        if self._discards:
            self._discard(len(data))
            return
        is_begin = self._is_new or not self._reading
        self._is_new = False
        if self.pipeline or self._unparsed:
            self._unparsed += data
            self._read_ahead()
            return
        if self._latest_head is not None and is_begin and self._repeats(self._latest_head, data):
            return
        self._latest_head = self._head_taken = None
        self._parse(data)
        if self._reading:
            self._note_piece(len(data))
        elif is_begin and self._head_taken is not None:
            self._latest_head = RepeatedHead.of(data, *self._head_taken)

    def _repeats(self, head: RepeatedHead, data: bytes) -> bool:
        """Runs the request that came, if it has this head and can take the fast path."""
        if not self.cycle.response_complete or self.flow.write_paused or self.transport.is_closing():
            return False
        body = head.body_of(data)
        if body is None or len(body) > self._longest_body_bytes:
            return False
        model = fast_path_model(self._service, head.asked)
        if model is None:
            return False
        self._idle_since = None
        request = self._fast_path_request(head.asked, model, head.headers)
        request.add(body)
        request.run()
        return True

    def _note_piece(self, count_bytes: int) -> None:
        """Notes the pace of a request that is not whole with this piece; few are not."""
        now_s = self.loop.time()
        if self._begins:
            self._begins = False
            self._coming.begin(now_s)
        self._coming.move(now_s, count_bytes)

    def _parse(self, data: bytes) -> None:
        if len(data) <= _PIECE_BYTES:
            self._feed(data)
        else:
            whole, at = memoryview(data), 0
            while at < len(data) and not self.pipeline:
                length = max(_PIECE_BYTES, self._body_left) if self._in_body else _PIECE_BYTES
                if not self._feed(whole[at : at + length]):
                    return
                at += length
            self._unparsed = bytes(whole[at:])
        if self.pipeline:
            self._read_ahead()

    def _read_ahead(self) -> None:
        if len(self._unparsed) > _AHEAD_BYTES:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def _feed(self, data: bytes | memoryview) -> bool:
        """Feeds the parser; returns whether more may follow."""
        body_left = self._body_left
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as fault:
            error, self._error = self._error, None
            self._refuse(error or _no_request(fault))
            return False
        self._take_body()
        if self._in_body and self._body_left != body_left:
            self._header_bytes = 0
        elif self._in_headers or self._in_body:  # part of a body: a trailer, or the begin of a chunk
            # The parser joins the pieces of a field, and copies all earlier ones each time.
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(_headers_too_large())
                return False
        return True

    def _go_on_without_upgrade(self, rest: bytes | memoryview) -> bool:
        """Ignores an Upgrade, as a server may: the parser would take the body for the next request."""
        head, self._without_upgrade = self._without_upgrade, None
        assert head is not None
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return self._feed(head) and (not rest or self._feed(rest))

    def on_message_begin(self) -> None:
        """Begins a new request. What ASGI needs is made only once it is needed."""
        self._in_headers = self._reading = True
        self._idle_since = None
        self._header_bytes = 0
        self._begins = True
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header; trailers after a chunked body are ignored."""
        if self._in_headers:
            if len(self.headers) == MAX_HEADERS:
                self._fail(_headers_too_large())
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Ends the headers; the body comes next."""
        self._in_headers = False
        self._header_bytes = 0
        if self.transport.is_closing():  # with the answer to the previous request
            self._fail(bad_request("the connection has ended"))
        method, version = self.parser.get_method(), self.parser.get_http_version()
        headers = dict(self.headers)
        try:
            check_head(method, version, self.headers, headers)
            if not self.url.startswith(b"/"):
                check_target(self.url, headers.get(b"host"))
            body_bytes = byte_count(headers, b"content-length")
        except RequestError as error:
            self._fail(error)
        if self.parser.should_upgrade():
            fields = [b"%b: %b\r\n" % field for field in self.headers if field[0] != b"upgrade"]
            line = b"%b %b HTTP/%b\r\n" % (method, self.url, version.encode())
            self._without_upgrade = line + b"".join(fields) + b"\r\n"
            return
        self._in_body = True
        self._body_left = body_bytes
        if method == b"POST" and version == "1.1" and self._takes_fast_path(headers):
            return
        url, fields_given, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.headers += fields_given
        self.url, self.expect_100_continue = url, expects
        self.scope["extensions"] = {SENT: {"wait": self.flow.drain}}
        super().on_headers_complete()
        self.cycle.transport = self  # type: ignore[assignment]
        self.cycle.keep_alive = self.cycle.keep_alive and not self._service.draining
        if not self.pipeline:
            self._answering = self.cycle

    def _takes_fast_path(self, headers: dict[bytes, bytes]) -> bool:
        # Requests are answered one after the other, and only to clients that read their answers.
        if (
            not self._may_take_fast_path
            or (self.cycle is not None and not self.cycle.response_complete)
            or self.flow.write_paused
            or not self.parser.should_keep_alive()
        ):
            return False
        asked = asked_model(self._service, self.url, headers)
        model = None if asked is None else fast_path_model(self._service, asked)
        if asked is None or model is None:
            return False
        self._head_taken = headers, asked
        self._fast_path = self._fast_path_request(asked, model, headers)
        return True

    def _fast_path_request(
        self, asked: AskedModel, model: ServedModel, headers: dict[bytes, bytes]
    ) -> FastPathRequest:
        spans, span = self._service.spans, None
        if spans is not None:
            scheme = self.scheme or "http"
            span = spans.of_http(self.url.decode(), headers, scheme, self.client, route=asked.route)
        request = FastPathRequest(self, self.tasks, self._service, asked, model, headers, span)
        request.keep_alive = not self._service.draining
        self.cycle = self._answering = request  # type: ignore[assignment]
        return request

    def on_body(self, body: bytes) -> None:
        """Takes a piece of the body."""
        self._body_left -= len(body)
        if self._fast_path is None:
            self._body_parts.append(body)
        else:
            self._fast_path.add(body)

    def _take_body(self) -> None:
        """Passes on the collected pieces of a body: its chunks may be as small as a byte."""
        if self._body_parts:
            parts, self._body_parts = self._body_parts, []
            super().on_body(b"".join(parts))

    def on_message_complete(self) -> None:
        """Ends the request: it is whole."""
        if self._without_upgrade is not None:
            return
        self._reading = self._in_body = False
        self._take_body()
        request, self._fast_path = self._fast_path, None
        if request is None:
            super().on_message_complete()
        else:
            request.run()

    # -- what goes

    def write_response(self, head: bytes, body: bytes | bytearray, keep_alive: bool) -> None:
        """Writes a whole response to a request on the fast path."""
        if self.is_closing():
            return
        given, fields = self._default_fields
        if given is not self.server_state.default_headers:  # they are made anew each second
            given = self.server_state.default_headers
            fields = b"".join([b"%b: %b\r\n" % field for field in given])
            self._default_fields = given, fields
        end = b"" if keep_alive else b"connection: close\r\n"
        length = b"content-length: %d\r\n\r\n" % len(body)
        self.transport.write(b"".join((head, fields, end, length, body)))
        if not keep_alive:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Lets the next request come."""
        self.server_state.total_requests += 1
        if self.flow.write_paused:
            self._next_waits = True
        elif self.transport.is_closing():
            return
        elif self.pipeline or self._unparsed or self._refusal is not None:
            self._go_on()
        else:
            self.flow.resume_reading()
            if not self._reading:
                self._idle_since = self.loop.time()

    def _go_on(self) -> None:
        if self.pipeline:
            self._answering, app = self.pipeline.pop()
            self._start_asgi_task(self._answering, app)
            if self.pipeline:
                return
        if self._unparsed:
            unparsed, self._unparsed = self._unparsed, b""
            self._parse(unparsed)
            if self._reading:
                self._note_piece(len(unparsed))
            if self.pipeline or self._unparsed:
                return
        self.flow.resume_reading()
        if self._answering.response_complete:
            self._end_or_wait()

    def _end_or_wait(self) -> None:
        """Ends the connection, or waits: everything that came has been answered."""
        if self._refusal is not None:
            self._write_refusal(self._refusal)
            self._linger()
        elif not self._reading:
            self._idle_since = self.loop.time()

    # -- the client is gone

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or this side has closed it."""
        waiting = [self._answering, *(cycle for cycle, _ in self.pipeline), self.cycle]
        self.pipeline.clear()
        super().connection_lost(exc)
        for cycle in waiting:
            if cycle is not None:
                self._give_up(cycle)
        # References are cleared, so that no cycle keeps an answer in memory until it is collected.
        self._answering = self.cycle = self._fast_path = None  # type: ignore[assignment]

    @staticmethod
    def _give_up(cycle: Any) -> None:
        """Gives a request up: nobody waits for its answer."""
        if not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    # -- refusals

    def _fail(self, error: RequestError) -> None:
        """Stops the parser, whose own error does not say why."""
        self._error = error
        raise error

    def _refuse(self, error: RequestError) -> None:
        """Refuses the request that is arriving; those before it are answered first."""
        if self.is_closing():
            return
        is_answered = False
        cycle = self.cycle
        if self._in_body and cycle is not None:
            # The body that cannot be read belongs to this cycle.
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
            elif not self.pipeline and self._answering is cycle:
                is_answered = cycle.response_complete or getattr(cycle, "response_started", False)
                self._give_up(cycle)
                self._answering = None
        self._refusal = error
        self._discards = True
        self._reading = self._in_headers = False
        if self._answering is not None and not self._answering.response_complete:
            return
        if not is_answered:
            self._write_refusal(error)
        if error.status == HTTPStatus.REQUEST_TIMEOUT:
            self.transport.close()
        else:
            self._linger()


def _no_request(fault: httptools.HttpParserError) -> RequestError:
    """Makes the refusal, in the parser's own words, which are short and fixed."""
    if isinstance(fault, httptools.HttpParserCallbackError):
        return bad_request("this is not an HTTP/1.1 request")
    return bad_request(f"this is not an HTTP/1.1 request: {fault}")


def _headers_too_large() -> RequestError:
    return RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large")
