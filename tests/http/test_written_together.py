"""The head of an answer goes out with its body, or alone where the body comes later."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from engine_helpers import PATIENCE_S
from http_helpers import Served, config_of, serving_services

from paddleinfer.serve import Service
from paddleinfer.shim.http.app import Application
from paddleinfer.shim.http.protocol import HttpProtocol
from paddleinfer.shim.service.models import Models
from paddleinfer.shim.service.service import Service as ServedService

ASK = b"POST /services/echo HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n%b"


class Noting:
    """A transport that notes what is written."""

    def __init__(self, transport: Any, written: list[bytes]) -> None:
        self._transport = transport
        self._written = written

    def write(self, data: bytes) -> None:
        self._written.append(bytes(data))
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All that any connection writes."""
    pieces: list[bytes] = []
    made = HttpProtocol.connection_made
    monkeypatch.setattr(
        HttpProtocol, "connection_made", lambda self, transport: made(self, Noting(transport, pieces))
    )
    return pieces


@pytest.fixture
def echo() -> Iterator[Served]:
    with (
        Service({}, handle=lambda request, _: request.body) as service,
        serving_services({}, {"echo": service}) as server,
    ):
        yield server


def test_a_small_answer_is_one_write(written: list[bytes], echo: Served) -> None:
    answer = echo.exchange(ASK % (5, b"hello"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\nhello")
    assert written == [answer]


def test_a_large_body_is_not_copied_behind_its_head(written: list[bytes], echo: Served) -> None:
    body = b"x" * (1 << 20)
    answer = echo.exchange(ASK % (len(body), body))
    assert answer.endswith(b"\r\n\r\n" + body)
    assert len(written) == 2 and written[1] == body


def test_answers_to_requests_sent_at_once_come_whole_and_in_order(echo: Served) -> None:
    head = b"HEAD /v2 HTTP/1.1\r\nHost: t\r\n\r\n"
    with echo.connect() as connection:
        last = ASK.replace(b"Host: t", b"Host: t\r\nConnection: close") % (3, b"two")
        connection.sendall(ASK % (3, b"one") + head + ASK % (1, b"1") + head + last)
        received = b""
        while part := connection.recv(1 << 16):
            received += part
    assert received.count(b"HTTP/1.1 200 OK") == 5
    assert received.index(b"\r\n\r\none") < received.index(b"\r\n\r\n1") < received.index(b"\r\n\r\ntwo")
    assert received.endswith(b"\r\n\r\ntwo")


def test_a_head_without_a_body_is_written(echo: Served) -> None:
    with echo.connect() as connection:
        connection.sendall(b"HEAD /v2 HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
        received = b""
        while part := connection.recv(1 << 16):
            received += part
    assert received.startswith(b"HTTP/1.1 200 OK") and received.endswith(b"\r\n\r\n")


class Late(Application):
    """Its body comes when it is let, or never."""

    def __init__(self) -> None:
        super().__init__(ServedService(Models.of({})), load=False)
        self.opened = threading.Event()
        self.fails = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        if self.fails:
            raise RuntimeError("after the head")
        while not self.opened.is_set():
            await asyncio.sleep(0.001)
        await send({"type": "http.response.body", "body": b"late"})


@contextlib.contextmanager
def serving_late(app: Late) -> Iterator[Served]:
    server = uvicorn.Server(config_of(app, timeout_graceful_shutdown=5))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield Served(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)


def test_a_head_does_not_wait_for_a_body_that_comes_later() -> None:
    app = Late()
    with serving_late(app) as server, server.connect() as connection:
        connection.sendall(b"GET /late HTTP/1.1\r\nHost: t\r\n\r\n")
        head = connection.recv(1 << 16)
        assert head.startswith(b"HTTP/1.1 200 OK") and head.endswith(b"\r\n\r\n")
        app.opened.set()
        assert connection.recv(1 << 16) == b"late"


def test_a_head_is_written_before_the_connection_ends_for_a_failure() -> None:
    app = Late()
    app.fails = True
    with serving_late(app) as server:
        answer = server.exchange(b"GET /late HTTP/1.1\r\nHost: t\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK") and answer.endswith(b"\r\n\r\n")
