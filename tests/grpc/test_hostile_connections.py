"""HTTP/2 that no client sends by mistake; after it the server still answers, and has kept nothing."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator

import grpc
import pytest
from engine_helpers import PATIENCE_S, eventually
from grpc_outsider import INFER, Outsider
from grpc_server_process import ALLOWED_BYTES, ServerProcess
from http2_frames import (
    CALL,
    CONTINUATION,
    DATA,
    DEAF_OPENING,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    OPENING,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    frames,
    headers,
    prefixed,
    whole_call,
)

pytestmark = pytest.mark.usefixtures("still_answers")


@contextlib.contextmanager
def connected(grpc_process: ServerProcess) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", grpc_process.port), PATIENCE_S) as connection:
        yield connection


def sent_on(grpc_process: ServerProcess, *parts: bytes) -> bytes:
    """What comes back until the server closes, once our side is closed."""
    received = b""
    with connected(grpc_process) as connection, contextlib.suppress(ConnectionError):
        for part in parts:
            connection.sendall(part)
        with contextlib.suppress(OSError):  # it is closed already
            connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(1 << 16):
            received += part
    return received


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\0" * 1000,
        b"\xff" * 100_000,
        b"GET / HTTP/1.1\r\nHost: t\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS
        PREFACE[:10],
        PREFACE,
        PREFACE + b"\xff" * 1000,
        OPENING + frame(DATA, 0, 1, b"x"),  # of a stream that nobody opened
        OPENING + frame(HEADERS, END_HEADERS, 1, b"\xff" * 200),
        OPENING + frame(HEADERS, END_HEADERS, 1, b"\x40\xff\xff\xff\xff\x0f"),  # a name of gigabytes
        OPENING + frame(HEADERS, END_HEADERS, 2, headers()),  # of a stream that is not the client's
        OPENING + frame(SETTINGS, 0, 0, b"12345"),
        OPENING + frame(PING, 0, 0, b"123"),
        OPENING + frame(99, 255, 7, b"nobody knows this kind"),
        OPENING + frame(HEADERS, 0, 1, headers()) + frame(PING, 0, 0, bytes(8)),  # within headers
        OPENING + frame(DATA, 0, 1, b"x" * 100, length=(1 << 24) - 1),
        OPENING + CALL[:-3],
        OPENING + CALL + frame(DATA, 0, 1, prefixed(b"abc", length=100)),  # cut short
        OPENING + frame(HEADERS, END_STREAM | END_HEADERS, 1, 300 * headers(name="x" * 100)),
        # Calls that end without a whole message; grpc leaves them open until their client gives them up.
        OPENING + CALL + frame(DATA, END_STREAM, 1, prefixed(b"abc", length=100)),
        OPENING + CALL + frame(DATA, END_STREAM, 1, b"\0\0"),
        OPENING + CALL + frame(DATA, END_STREAM, 1),
        OPENING + frame(HEADERS, END_STREAM | END_HEADERS, 1, headers(kind="text/html")),
        OPENING + frame(HEADERS, END_STREAM | END_HEADERS, 1, headers(grpc_timeout="9" * 30 + "H")),
        OPENING + CALL + frame(RST_STREAM, 0, 1, b"12"),
        OPENING + CALL + frame(GOAWAY, 0, 0, bytes(8)),
    ],
    ids=range(27),
)
def test_broken_http2_ends_its_connection_and_no_other(grpc_process: ServerProcess, sent: bytes) -> None:
    sent_on(grpc_process, sent)


@pytest.mark.parametrize(
    "call",
    [
        CALL + frame(DATA, END_STREAM, 1, prefixed(b"abc", length=(1 << 32) - 1)),
        CALL + frame(DATA, END_STREAM, 1, prefixed(b"abc", flags=1)),  # compressed, it says
        CALL + frame(DATA, END_STREAM, 1, prefixed(b"abc", flags=77)),
        CALL + frame(DATA, END_STREAM, 1, 3 * prefixed(b"abc")),  # three where one is right
        frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x83\x86"),
        frame(HEADERS, END_STREAM | END_HEADERS, 1, headers(grpc_timeout="-1S")),
        frame(HEADERS, END_STREAM | END_HEADERS, 1, headers(grpc_encoding="nobody")),
    ],
    ids=range(7),
)
def test_a_broken_call_is_ended_while_its_connection_stays(
    grpc_process: ServerProcess, outsider: Outsider, call: bytes
) -> None:
    good = frame(HEADERS, END_HEADERS, 3, headers()) + frame(
        DATA, END_STREAM, 3, prefixed(outsider.row_request())
    )
    with connected(grpc_process) as connection:
        connection.sendall(OPENING + call + good)
        came = frames(connection)
        missing = {"its end", "the other's answer"}
        while missing:
            kind, stream = next(came)
            if stream == 1 and kind in (HEADERS, RST_STREAM):
                missing.discard("its end")
            if stream == 3 and kind == DATA:
                missing.discard("the other's answer")


def test_connections_that_say_nothing_keep_nobody_waiting(
    grpc_process: ServerProcess, outsider: Outsider
) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(200):
            connection = stack.enter_context(connected(grpc_process))
            connection.sendall((b"", PREFACE, OPENING, OPENING + CALL)[number % 4])
        with Outsider(outsider.address) as another:
            assert another.is_answered()


def flood(grpc_process: ServerProcess, piece: Callable[[int], bytes], pieces: int) -> None:
    """Sends all of it, or as much as the server lets it, and reads nothing."""
    with connected(grpc_process) as connection, contextlib.suppress(OSError):
        connection.settimeout(2.0)  # the server may stop reading, too
        connection.sendall(OPENING)
        for number in range(pieces):
            connection.sendall(piece(number))


def streams(number: int) -> bytes:
    stream = 2 * number + 1
    return frame(HEADERS, END_HEADERS, stream, headers()) + frame(RST_STREAM, 0, stream, bytes(4))


@pytest.mark.parametrize(
    "piece",
    [
        lambda number: b"".join(streams(100 * number + part) for part in range(100)),
        lambda number: b"".join(
            frame(HEADERS, END_STREAM | END_HEADERS, stream, headers())
            for stream in range(200 * number + 1, 200 * number + 201, 2)
        ),
        lambda number: 1000 * frame(PING, 0, 0, bytes(8)),
        lambda number: 1000 * frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff"),
        lambda number: frame(CONTINUATION if number else HEADERS, 0, 1, 16_000 * b"\x82"),
        lambda number: (b"" if number else CALL) + 1000 * frame(DATA, 0, 1),
    ],
    ids=[
        "calls taken back",
        "calls without a message",
        "pings",
        "settings",
        "headers without end",
        "empty data",
    ],
)
def test_a_flood_is_survived_and_not_kept(grpc_process: ServerProcess, piece: Callable[[int], bytes]) -> None:
    before = grpc_process.memory_bytes()
    flood(grpc_process, piece, 100)
    assert eventually(lambda: grpc_process.memory_bytes() < before + ALLOWED_BYTES)


def test_a_client_that_takes_no_answers_keeps_nobody_waiting(
    grpc_process: ServerProcess, outsider: Outsider
) -> None:
    before = grpc_process.memory_bytes()
    with connected(grpc_process) as connection:
        connection.sendall(DEAF_OPENING)
        for stream in range(1, 4000, 2):
            connection.sendall(whole_call(stream, outsider.row_request()))
        assert outsider.is_answered()
    assert eventually(lambda: grpc_process.memory_bytes() < before + ALLOWED_BYTES)


def test_metadata_without_end_are_refused(outsider: Outsider) -> None:
    call = outsider.channel.unary_unary(INFER)
    with pytest.raises(grpc.RpcError) as caught:
        call(
            outsider.row_request(),
            timeout=PATIENCE_S,
            metadata=[(f"x-{number}", "y" * 1000) for number in range(100)],
        )
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
