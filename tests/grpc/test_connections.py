"""Connections and messages that take their time: how long, and how many at once."""

from __future__ import annotations

import contextlib
import resource
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from engine_helpers import PATIENCE_S, engine_of, rows
from grpc_helpers import ModelInferRequest, Served, make_certificate, raw, serving
from grpc_outsider import Outsider
from grpc_server_process import server_process
from http2_frames import DATA, END_HEADERS, GOAWAY, HEADERS, OPENING, frame, frames, headers, prefixed

from paddleinfer.shim.grpc.server import max_connections

ASKS = ModelInferRequest(**raw(x=rows())).SerializeToString()
# Most of a message, whose end does not come.
PART = frame(DATA, 0, 1, prefixed(ASKS, length=1 << 20))


@contextlib.contextmanager
def connected(server: Served) -> Iterator[socket.socket]:
    host, _, port = server.server.addresses[0].rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
        yield connection


@contextlib.contextmanager
def serving_rows(**options: Any) -> Iterator[Served]:
    with engine_of() as engine, serving(engine, **options) as server:
        yield server


def is_closed(connection: socket.socket) -> bool:
    """By the server, in the end."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass
    return True


def test_a_connection_that_says_nothing_is_closed_after_the_handshake_timeout() -> None:
    with serving_rows(request_timeout=0.5) as server, connected(server) as silent:
        assert is_closed(silent)


def test_a_tls_handshake_that_does_not_come_ends_after_the_handshake_timeout(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    with (
        engine_of() as engine,
        serving(engine, tls_handshake_timeout=0.5, tls_cert=str(certificate), tls_key=str(key)) as server,
        connected(server) as silent,
    ):
        silent.sendall(b"\x16\x03\x01")
        assert is_closed(silent)


def test_an_idle_connection_is_told_to_go_after_the_keep_alive_timeout() -> None:
    with serving_rows(keep_alive_timeout=0.5) as server, connected(server) as idle:
        idle.sendall(OPENING)
        assert GOAWAY in {kind for kind, _ in frames(idle)}


def test_a_connection_beyond_the_limit_is_closed_and_others_are_served() -> None:
    with serving_rows(max_connections=3) as server, contextlib.ExitStack() as stack:
        server.still_answers()
        for _ in range(2):
            connection = stack.enter_context(connected(server))
            connection.sendall(OPENING)
            assert next(frames(connection))  # it is taken
        with connected(server) as surplus:
            assert is_closed(surplus)
        server.still_answers()


def test_descriptors_are_left_for_http() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (264, before[1]))
    try:
        assert max_connections(10, 100) == 10
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 264
        assert max_connections(200, 100) == 200
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 428  # as many as are needed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_idle_grpc_connections_take_no_descriptor_that_http_needs() -> None:
    with server_process(descriptors=256) as server, contextlib.ExitStack() as stack:
        for _ in range(400):
            with contextlib.suppress(ConnectionError):
                connection = stack.enter_context(
                    socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)
                )
                connection.sendall(OPENING)
        for _ in range(50):
            with urllib.request.urlopen(f"{server.url}/v2/health/live", timeout=PATIENCE_S) as answer:
                assert answer.status == 200


def test_a_message_that_does_not_come_is_given_up_after_the_request_timeout() -> None:
    # Longer than a client may stand still between its connection and its words.
    with serving_rows(request_timeout=3) as server, contextlib.ExitStack() as stack:
        slow = []
        for sent in (b"", PART):
            slow.append(stack.enter_context(connected(server)))
            slow[-1].sendall(OPENING + frame(HEADERS, END_HEADERS, 1, headers()) + sent)
        for connection in slow:
            assert (HEADERS, 1) in frames(connection)  # its status


def test_of_too_many_slow_messages_the_slowest_is_refused() -> None:
    size = 1 << 20
    with (
        serving_rows(max_body_bytes=size, max_buffered_bytes=size, request_timeout=10 * PATIENCE_S) as server,
        contextlib.ExitStack() as stack,
    ):
        slow = [stack.enter_context(connected(server)) for _ in range(17)]
        for connection in slow:
            connection.sendall(OPENING + frame(HEADERS, END_HEADERS, 1, headers()) + PART)
            assert next(frames(connection))
            server.still_answers()
        assert (HEADERS, 1) in frames(slow[0])
        server.still_answers()
        # The others may go on.
        slow[2].settimeout(0.0)
        came = []
        with pytest.raises(BlockingIOError):
            for found in frames(slow[2]):
                came.append(found)
        assert (HEADERS, 1) not in came


def test_a_call_without_a_message_is_refused() -> None:
    with serving_rows() as server, Outsider(server.server.addresses[0]) as outsider:
        call = outsider.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as refused:
            call(iter(()), timeout=PATIENCE_S)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == "the call has no message"
