"""Handles a connection over HTTP: its begin, its end, and its limits in time and bytes."""

from __future__ import annotations

import abc
import math
import select
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..protocol.errors import RequestError
from ..service.service import Service
from .app import Application
from .pace import Pace, PaceLimits

__all__ = ["HttpConnection"]

# Seconds between two looks at a connection, unless one of its timeouts is shorter.
_LOOK_EVERY_S: Final = (1.0, 5.0)
# The time that a new connection has to send its request once the server is ending.
_FIRST_REQUEST_S: Final = 2.0
# How long, and how much, a client may go on sending after its request was refused, so that it gets to read
# why; of a body it may send as much as the limit allows.
_LINGER_S: Final = 2.0
_LINGER_BYTES: Final = 256 << 10
_HTTP: Final = b"HTTP/1.1 "
# A larger body is not copied to stand behind its head.
_JOINED_BYTES: Final = 64 << 10


class HttpConnection(HttpToolsProtocol):
    """The part of a connection that does not depend on its requests."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app = self.config.app
        assert isinstance(app, Application)
        self._service: Service = app.service
        self.is_counted = False
        """Whether the limits on connections count it."""
        self._in_headers = False
        self._in_body = False
        self._reading = True  # a request, or waiting for the first one
        self._is_new = True  # nothing has arrived yet
        self._begins = False  # a request, and the piece that is being read
        self._discards = False  # anything that arrives
        self._held_head = b""  # of an answer, until the end of this turn of the loop
        self._unparsed = b""
        """The bytes that came behind requests that wait for their turn."""
        self._lingers_until_s = math.inf
        self._linger_bytes = _LINGER_BYTES
        options = self._service.options
        self._read_limits = PaceLimits(
            options.read_timeout_s, options.min_bytes_per_s, options.request_timeout_s
        )
        self._write_limits = PaceLimits(options.write_timeout_s, options.min_bytes_per_s)
        now_s = self._began_s = self.loop.time()
        self._coming = Pace(self._read_limits, now_s)
        self._leaving: Pace | None = None
        """The pace of an answer that the client has not taken yet."""
        self._unsent_bytes = 0
        self._when_sent: Callable[[], None] | None = None
        self._next_waits = False
        self._idle_since: float | None = None

    @abc.abstractmethod
    def _go_on(self) -> None:
        """Goes on to the next request."""

    @abc.abstractmethod
    def _refuse(self, error: RequestError) -> None:
        """Refuses the request that is arriving."""

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        if not self.is_counted:
            refusal = self._service.connections.enter(self.address)
            if refusal is not None:
                later = {"Retry-After": "1"}
                self._write_refusal(RequestError(HTTPStatus.SERVICE_UNAVAILABLE, refusal, later))
                transport.close()
                return
            self.is_counted = True
        self._look_again_in(self._look_every_s)

    @property
    def address(self) -> str | None:
        """The client's address, if it has one."""
        return None if self.client is None else self.client[0]

    def _discard(self, count_bytes: int) -> None:
        if self._lingers_until_s < math.inf:
            self._linger_bytes -= count_bytes
            if self._linger_bytes < 0:
                self.transport.close()

    def write(self, data: bytes) -> None:
        """Writes for a cycle, to which this is the transport. A head goes with the body that follows at once.

        Each write is a call of the system's, and wakes the client.
        """
        if self._held_head:
            head, self._held_head = self._held_head, b""
            if len(data) <= _JOINED_BYTES:
                data = head + data
            else:
                self.transport.write(head)
        elif data.startswith(_HTTP) and not self.pipeline and self.cycle.scope["method"] != "HEAD":
            self._held_head = data
            self.loop.call_soon(self._write_head)
            return
        self.transport.write(data)

    def _write_head(self) -> None:
        """Nothing has followed it so far."""
        head, self._held_head = self._held_head, b""
        if head and not self.transport.is_closing():
            self.transport.write(head)

    def is_closing(self) -> bool:
        """Tells whether no answer can be given any more."""
        return self.transport.is_closing() or self._lingers_until_s < math.inf

    def close(self) -> None:
        """Ends the connection once everything is written."""
        self._write_head()
        if self._in_body:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Ends it so that a client that is still sending reads the answer; closing at once would reset it."""
        if self.is_closing():
            return
        if not self.transport.can_write_eof():  # TLS
            self.transport.close()
            return
        self._discards = True
        self._lingers_until_s = self.loop.time() + _LINGER_S
        if self._in_body:
            self._linger_bytes += self._service.options.max_body_bytes
        self.flow.resume_reading()
        self.transport.write_eof()

    def when_sent(self, call: Callable[[], None]) -> None:
        """Calls a function when the client has taken the answer that was just written, or is gone."""
        if self.flow.write_paused and not self.transport.is_closing():
            self._when_sent = call
        else:
            call()

    def pause_writing(self) -> None:
        """The client reads more slowly than is written."""
        super().pause_writing()
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self._leaving = Pace(self._write_limits, self.loop.time())
        self._service.connections.hold(self)

    def resume_writing(self) -> None:
        """The client has taken nearly all."""
        super().resume_writing()
        self._has_left()
        if self._next_waits:
            self._next_waits = False
            if not self.is_closing():
                self._go_on()

    def _has_left(self) -> None:
        self._leaving = None
        self._service.connections.release(self)
        call, self._when_sent = self._when_sent, None
        if call is not None:
            call()

    @property
    def unsent_bytes(self) -> int:
        """The bytes of an answer that are still in memory."""
        return self.transport.get_write_buffer_size()

    def drop(self) -> None:
        """Ends the connection at once, and drops what is unsent."""
        self.loop.call_soon(self.transport.abort)  # it may be writing just now

    # -- one timer looks after each connection, not a new one after each response

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        """Ends a connection that is idle for too long, or too slow to send a request or to take an answer."""
        self.timeout_keep_alive_task = None
        now_s = self.loop.time()
        left_s = min(self._look_at_answer(now_s), self._lingers_until_s - now_s)
        if left_s <= 0:
            self.transport.abort()
            return
        if not self.is_closing():
            left_s = min(left_s, self._look_at_request(now_s))
        if self.flow.read_paused:
            self._look_for_end()
            left_s = min(left_s, _LOOK_EVERY_S[0])
        self._look_again_in(max(0.001, min(left_s, self._look_every_s)))

    def _look_at_answer(self, now_s: float) -> float:
        """Returns the seconds left for the client to take what was written."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if self._leaving is None:
            if not unsent_bytes or not self.transport.is_closing():
                return math.inf
            self._leaving, self._unsent_bytes = Pace(self._write_limits, now_s), unsent_bytes
        if unsent_bytes < self._unsent_bytes:
            self._leaving.move(now_s, self._unsent_bytes - unsent_bytes)
        self._unsent_bytes = unsent_bytes
        return self._leaving.left_s(now_s)

    def _look_at_request(self, now_s: float) -> float:
        """Returns the seconds left for the next request to begin or to arrive."""
        if self._idle_since is not None:
            left_s = self._idle_since + self.timeout_keep_alive - now_s
            if left_s <= 0:
                self.transport.close()
            return left_s
        if not self._reading:
            return math.inf
        if self.flow.read_paused:  # closed by this side
            self._coming.begin(now_s)
        left_s = self._coming.left_s(now_s)
        if left_s <= 0:
            self._refuse(RequestError(HTTPStatus.REQUEST_TIMEOUT, self._coming.fault(now_s)))
        return left_s

    def _look_for_end(self) -> None:
        """Ends it if its client has left, which does not show by itself while nothing is read."""
        looking = select.poll()
        looking.register(self.transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        for _, found in looking.poll(0):
            if found & (select.POLLERR | select.POLLHUP):
                self.transport.abort()
            else:
                self.transport.close()

    @property
    def _look_every_s(self) -> float:
        least, most = _LOOK_EVERY_S
        limits = (self.timeout_keep_alive, self._read_limits.silence_s, self._write_limits.silence_s)
        return min(most, max(least, min(limits)))

    # -- its end

    def begin_drain(self) -> None:
        """Ends the connection with the answer to the last request that has come: the server ends soon."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Answers what has come, and then ends the connection: the server ends."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        elif self._in_body:  # the rest of a request that has its answer
            self._linger()
        elif self._is_new and self.loop.time() < self._began_s + _FIRST_REQUEST_S:
            self.loop.call_later(_FIRST_REQUEST_S, self._end_if_new)
        elif not (self._in_headers or self._unparsed):
            self.transport.close()

    def _end_if_new(self) -> None:
        if self._is_new:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left, or this side has closed it."""
        super().connection_lost(exc)
        self._unparsed = b""
        self._next_waits = False
        self._has_left()
        if self.is_counted:
            self.is_counted = False
            self._service.connections.leave(self.address)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def _write_refusal(self, error: RequestError) -> None:
        body = orjson.dumps({"error": error.message})
        status = HTTPStatus(error.status)
        fields = "".join(f"{name.lower()}: {value}\r\n" for name, value in error.headers.items())
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: application/json\r\n{fields}"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
