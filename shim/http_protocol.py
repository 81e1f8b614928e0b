"""uvicorn's HTTP/1.1 protocol: headers have a limit, errors are JSON, small requests go a direct way."""

from __future__ import annotations

import math
import re
from typing import Any, Final

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .app import Application
from .direct import Direct, direct_model

__all__ = ["MAX_HEADER_BYTES", "HttpProtocol"]

MAX_HEADER_BYTES: Final = 64 << 10
"""Of the request line and the headers, beyond what came in the first piece; and of trailers."""

_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_headers = False
        self._in_body = False
        self._begins = False  # a request, with the piece that is being read
        self._reading = True  # a request, or waiting for the first one
        self._header_bytes = 0
        self._heard_at = 0.0
        self._direct: Direct | None = None
        """The request whose body comes, if it goes the direct way."""
        self._idle_since: float | None = None
        app = self.config.app
        self._service = app.service if isinstance(app, Application) else None
        self._may_go_directly = (
            self._service is not None
            and not self.config.access_log
            and not self.root_path
            and self.limit_concurrency is None
        )

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)
        self._heard_at = self.loop.time()
        self._look_again_in(self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        """A piece from the socket."""
        self._heard_at = self.loop.time()
        self._begins = False
        if not self._in_body and (b"pgrade:" in data or b"PGRADE:" in data):
            data = _without_upgrade(data)
        super().data_received(data)
        # What came with the piece that a request begins in is bounded by what a socket gives at once.
        if self._in_headers and not self._begins:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._refuse(431, "Request Header Fields Too Large", "the headers are too large")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer after a chunked body, of which nobody here wants any."""
        if self._in_headers:
            super().on_header(name, value)
            return
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError("trailers too large")

    # -- the direct way

    def on_message_begin(self) -> None:
        """A new request. What ASGI needs is made when it is known to be needed."""
        self._in_headers = self._begins = self._reading = True
        self._header_bytes = 0
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Its body comes next."""
        self._in_headers = False
        self._in_body = True
        if self._goes_directly():
            return
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.headers += headers
        self.url, self.expect_100_continue = url, expects
        super().on_headers_complete()

    def _goes_directly(self) -> bool:
        parser = self.parser
        if not self._may_go_directly or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return False
        assert self._service is not None
        # One after the other, and only to clients that read their answers.
        if (self.cycle is not None and not self.cycle.response_complete) or self.flow.write_paused:
            return False
        headers = dict(self.headers)
        model = direct_model(self._service, self.url, headers)
        if model is None:
            return False
        spans, span = self._service.spans, None
        if spans is not None:
            span = spans.of_http(self.url.decode(), headers, self.scheme or "http", self.client)
        self._direct = Direct(self, self.tasks, self._service, model, headers, span)
        self.cycle = self._direct  # type: ignore[assignment]
        return True

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._direct is None:
            super().on_body(body)
        else:
            self._direct.add(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._reading = self._in_body = False
        direct, self._direct = self._direct, None
        if direct is None:
            super().on_message_complete()
        else:
            direct.begin()

    def write_response(self, head: bytes, body: bytes, keep_alive: bool) -> None:
        """A whole response to a request that went directly."""
        if self.transport.is_closing():
            return
        keep_alive = keep_alive and not (self._service is not None and self._service.draining)
        fields = b"".join([b"%b: %b\r\n" % field for field in self.server_state.default_headers])
        end = b"" if keep_alive else b"connection: close\r\n"
        self.transport.write(b"%b%b%bcontent-length: %d\r\n\r\n%b" % (head, fields, end, len(body), body))
        if not keep_alive:
            self.transport.close()

    # -- connections on which nothing happens: one timer looks after each, not a new one after each response

    def on_response_complete(self) -> None:
        """The next request may come."""
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        """Closes the connection if it has been idle for too long, or silent in the middle of a request."""
        self.timeout_keep_alive_task = None
        now, left = self.loop.time(), float(self.timeout_keep_alive)
        if self._idle_since is not None:
            left = self._idle_since + self.timeout_keep_alive - now
            if left <= 0:
                super().timeout_keep_alive_handler()
                return
        elif self._reading and now - self._heard_at >= self._read_timeout_s:
            self._refuse(408, "Request Timeout", f"nothing more came for {self._read_timeout_s:g} s")
            return
        self._look_again_in(left)

    @property
    def _read_timeout_s(self) -> float:
        return math.inf if self._service is None else self._service.options.read_timeout_s

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or this side has closed it."""
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    # -- refusals

    def send_400_response(self, msg: str) -> None:
        """For what is no HTTP."""
        self._refuse(400, "Bad Request", "this is no HTTP/1.1 request")

    def _refuse(self, status: int, phrase: str, message: str) -> None:
        if self.transport.is_closing():
            return
        body = orjson.dumps({"error": message})
        head = (
            f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """A server may ignore an Upgrade; the parser would take the body for what was upgraded to."""
    head, end, rest = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(b"\r\nx-upgrade:", head) + end + rest
