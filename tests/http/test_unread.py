"""Answers that nobody reads count, are limited, and leave nothing behind."""

from __future__ import annotations

import contextlib
import gc
import socket
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from engine_helpers import PATIENCE_S, engine_of, eventually
from http_helpers import INFER, Served, binary_body, binary_tensor, json_tensor, serving
from raw_http import HANDLERS, answers, get, post

from paddleinfer.shim.http.protocol import HttpProtocol

ANSWER_BYTES = 16 << 20  # more than the kernel holds for a connection


def large(inputs: dict[str, Any]) -> dict[str, Any]:
    rows = inputs["x"].shape[0]
    return {"y": np.zeros((rows, ANSWER_BYTES // 4 // rows), "float32")}


def asking(headers: bytes) -> bytes:
    x = np.zeros((1, 3), "float32")
    document = {"inputs": [json_tensor("x", x)], "parameters": {"binary_data_output": True}}
    return post(headers, orjson.dumps(document))


@contextlib.contextmanager
def unread(server: Served, headers: bytes) -> Iterator[socket.socket]:
    """A client that asks, and takes only the first bytes of its answer."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(PATIENCE_S)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(asking(headers))
        yield connection


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[HttpProtocol]:
    """Connections, as they are made."""
    protocols: list[HttpProtocol] = []
    connection_made = HttpProtocol.connection_made

    def noted(self: HttpProtocol, transport: Any) -> None:
        protocols.append(self)
        connection_made(self, transport)

    monkeypatch.setattr(HttpProtocol, "connection_made", noted)
    return protocols


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_request_is_under_way_until_its_answer_has_left(handler: str) -> None:
    with engine_of(large, batchable=False) as engine, serving(engine, max_inflight=2) as server:
        with contextlib.ExitStack() as stack:
            slow = [stack.enter_context(unread(server, HANDLERS[handler])) for _ in range(2)]
            for connection in slow:
                assert connection.recv(12) == b"HTTP/1.1 200"
            with server.connect() as third:
                third.sendall(post(HANDLERS[handler] + b"Connection: close\r\n"))
                (refused,) = answers(third)
            assert refused[0] == 429
            read_all(slow[0])
            assert eventually(lambda: asked(server) == 200)
        assert eventually(lambda: asked(server) == 200)


def asked(server: Served) -> int:
    with server.connect() as connection:
        connection.sendall(asking(b"Connection: close\r\n"))
        return answers(connection)[0][0]


def test_unread_answers_are_limited_in_all_and_the_oldest_are_dropped(made: list[HttpProtocol]) -> None:
    limit = 3 * ANSWER_BYTES
    with (
        engine_of(large, batchable=False) as engine,
        serving(engine, max_body_bytes=1 << 20, max_buffered_bytes=limit) as server,
        contextlib.ExitStack() as stack,
    ):
        clients = []
        for number in range(8):
            headers = list(HANDLERS.values())[number % 2]
            clients.append(stack.enter_context(unread(server, headers)))
            assert clients[-1].recv(12) == b"HTTP/1.1 200"
        assert eventually(lambda: held_bytes(made) <= limit)
        with pytest.raises((ConnectionError, AssertionError)):
            read_all(clients[0])
        read_all(clients[-1])


def held_bytes(protocols: list[HttpProtocol]) -> int:
    return sum(one.unsent_bytes for one in protocols if not one.transport.is_closing())


def read_all(connection: socket.socket) -> None:
    left = ANSWER_BYTES
    while left > 0:
        part = connection.recv(1 << 20)
        assert part, "it ended before"
        left -= len(part)


def test_an_answer_that_is_not_read_on_is_dropped_after_the_write_timeout() -> None:
    """On the real clock: the server looks every second."""
    with engine_of(large, batchable=False) as engine, serving(engine, write_timeout_s=0.1) as server:
        for headers in (b"", b"Connection: close\r\n", HANDLERS["application"]):
            with unread(server, headers) as connection:
                assert connection.recv(12) == b"HTTP/1.1 200"
                app = server.service
                assert eventually(lambda app=app: app.connections.open == 0)
                with pytest.raises((ConnectionError, AssertionError)):
                    read_all(connection)


def test_the_answer_of_any_route_is_waited_for_before_the_next_is_made() -> None:
    """A client that pipelines and does not read holds one answer at a time."""
    with engine_of() as engine, serving(engine) as server, server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(30):
            connection.sendall(100 * get("/openapi.json"))
        (protocol,) = server.connections()
        assert eventually(lambda: protocol.flow.write_paused)
        assert protocol.unsent_bytes < 1 << 20


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("read_first", [False, True])
def test_a_client_that_leaves_leaves_nothing_that_waits_for_a_collection(
    handler: str, read_first: bool, made: list[HttpProtocol]
) -> None:
    with engine_of(large, batchable=False) as engine, serving(engine) as server:
        gc.collect()
        gc.disable()
        try:
            with unread(server, HANDLERS[handler]) as connection:
                assert connection.recv(12) == b"HTTP/1.1 200"
                if read_first:
                    read_all(connection)
                    connection.sendall(asking(HANDLERS[handler]))
                    assert connection.recv(12)
            (protocol,) = made
            gone = weakref.ref(protocol)
            transport = weakref.ref(protocol.transport)
            made.clear()
            del protocol
            assert eventually(lambda: gone() is None)
            assert eventually(lambda: transport() is None)
        finally:
            gc.enable()
        assert server.service.inference.under_way == 0


def test_uploads_over_the_limit_on_all_bodies_are_refused_and_others_go_on() -> None:
    x = np.zeros((25_000, 3), "float32")  # 300,000 bytes
    body, fields = binary_body({"inputs": [binary_tensor("x", x)]}, x)
    headers = b"".join(f"{name}: {value}\r\n".encode() for name, value in fields.items())
    request = post(headers + b"Connection: close\r\n", body)
    with (
        engine_of(max_queue_rows=1 << 20) as engine,
        serving(engine, max_body_bytes=400_000, max_buffered_bytes=700_000) as server,
        contextlib.ExitStack() as stack,
    ):
        bodies = server.service.inference.bodies
        uploads = [stack.enter_context(server.connect()) for _ in range(2)]
        for upload in uploads:
            upload.sendall(request[:-1000])
        assert eventually(lambda: bodies.held > 500_000)
        for part in (request, request[:-1000]):
            with server.connect() as third:
                third.sendall(part)
                (refused,) = answers(third)
            assert refused[0] == 429
            assert b"--max-buffered-bytes" in refused[1]
        with server.connect() as small:
            small.sendall(post(b"Connection: close\r\n"))
            assert answers(small)[0][0] == 200
        uploads[1].close()
        uploads[0].sendall(request[-1000:])
        assert answers(uploads[0])[0][0] == 200
        assert eventually(lambda: bodies.held == 0)
        with server.connect() as fourth:
            fourth.sendall(request)
            assert answers(fourth)[0][0] == 200


def test_headers_alone_do_not_take_a_place_of_those_under_way() -> None:
    with engine_of() as engine, serving(engine, max_inflight=1) as server, contextlib.ExitStack() as stack:
        for headers in HANDLERS.values():
            waiting = stack.enter_context(server.connect())
            waiting.sendall(post(headers)[:-10])
        head = f"POST {INFER} HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n".encode()
        stack.enter_context(server.connect()).sendall(head)
        for headers in HANDLERS.values():
            with server.connect() as connection:
                connection.sendall(post(headers + b"Connection: close\r\n"))
                assert answers(connection)[0][0] == 200
