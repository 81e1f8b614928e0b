"""How long a connection stays open, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from engine_helpers import engine_of
from http_helpers import INFER
from uvicorn.server import ServerState

from paddleinfer.shim import ServiceOptions, create_app
from paddleinfer.shim.http.protocol import HttpProtocol
from paddleinfer.shim.options import ServerOptions

HEAD = b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: t\r\n"


class Timer:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at, self.call = at, call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """An event loop of which only the clock and the timers are wanted."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        assert delay > 0
        self.timers.append(Timer(self.now + delay, call))
        return self.timers[-1]

    def pass_by(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.at <= end]:
            timer = min(due, key=lambda one: one.at)
            self.timers.remove(timer)
            self.now = timer.at
            if not timer.cancelled:
                timer.call()
        self.now = end


class Transport:
    """What was written, and whether it was closed."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str) -> Any:
        return None

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


class Opened:
    """A connection that was just made."""

    def __init__(self, protocol: HttpProtocol, loop: Loop) -> None:
        self.protocol, self.loop, self.transport = protocol, loop, Transport()
        protocol.connection_made(self.transport)

    def is_answered(self) -> None:
        """A whole request comes, which is answered at once: it is none for the model."""
        before = len(self.transport.written)
        self.protocol.data_received(HEAD + b"Content-Length: 1\r\n\r\n{")
        assert self.transport.written[before:].startswith(b"HTTP/1.1 400")


@pytest.fixture
def opened() -> Any:
    """Opens connections with a keep-alive timeout and a read timeout."""
    with engine_of() as engine:

        def opened(keep_alive_s: float, read_timeout_s: float = 30.0) -> Opened:
            app = create_app({"m": engine}, ServiceOptions(read_timeout_s=read_timeout_s))
            config = uvicorn.Config(
                app, http=HttpProtocol, access_log=False, timeout_keep_alive=keep_alive_s, log_config=None
            )
            config.load()
            loop = Loop()
            protocol = HttpProtocol(config=config, server_state=ServerState(), app_state={}, _loop=loop)
            return Opened(protocol, loop)

        yield opened


@pytest.mark.parametrize("keep_alive_s", [0.3, 5.0, ServerOptions.keep_alive_timeout])
def test_an_idle_connection_stays_open_for_the_keep_alive_timeout(opened: Any, keep_alive_s: float) -> None:
    connection = opened(keep_alive_s)
    for _ in range(3):
        connection.is_answered()
        connection.loop.pass_by(keep_alive_s - 0.1)
        assert not connection.transport.closed
    connection.is_answered()
    connection.loop.pass_by(keep_alive_s + 1.0)
    assert connection.transport.closed
    assert connection.transport.written.count(b"HTTP/1.1") == 4


def test_blank_lines_keep_no_connection_open(opened: Any) -> None:
    connection = opened(5.0)
    connection.is_answered()
    for _ in range(20):
        connection.protocol.data_received(b"\r\n")
        connection.loop.pass_by(0.3)
    assert connection.transport.closed


def test_a_request_behind_blank_lines_is_not_idle(opened: Any) -> None:
    connection = opened(5.0)
    connection.is_answered()
    connection.protocol.data_received(b"\r\n" + HEAD[:1])
    connection.loop.pass_by(8.0)
    assert not connection.transport.closed
    connection.protocol.data_received(HEAD[1:] + b"Content-Length: 1\r\n\r\n{")
    assert connection.transport.written.count(b"HTTP/1.1 400") == 2


def test_the_default_is_longer_than_the_60_s_for_which_load_balancers_keep_connections() -> None:
    assert ServerOptions().keep_alive_timeout >= 65


@pytest.mark.parametrize("answered", [0, 2])
@pytest.mark.parametrize("sent", [HEAD, HEAD + b"Content-Length: 9\r\n\r\n{"])
def test_silence_in_a_request_is_found_in_time_however_long_idle_connections_stay(
    opened: Any, answered: int, sent: bytes
) -> None:
    connection = opened(3600.0, read_timeout_s=8.0)
    for _ in range(answered):
        connection.is_answered()
    connection.protocol.data_received(sent)
    connection.loop.pass_by(7.9)
    assert not connection.transport.closed
    connection.loop.pass_by(5.1)
    assert connection.transport.closed
    assert b"HTTP/1.1 408" in connection.transport.written


def test_a_connection_is_looked_at_every_few_seconds_at_most(opened: Any) -> None:
    connection = opened(3600.0, read_timeout_s=0.001)
    connection.is_answered()
    made = len(connection.loop.timers)
    connection.loop.pass_by(0.9)
    assert len(connection.loop.timers) == made == 1
