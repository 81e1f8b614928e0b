"""Bytes that no gRPC client sends by mistake; after each the server still answers, and has kept nothing."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from engine_helpers import PATIENCE_S, eventually, rows
from grpc_outsider import INFER, Outsider
from grpc_server_process import LIMIT_BYTES, ServerProcess, server_process
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4
# What a healthy server may take on meanwhile: buffers of its connections, and what allocators keep.
ALLOWED_BYTES = 10 * LIMIT_BYTES


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with server_process() as server:
        yield server


@pytest.fixture(scope="module")
def outsider(server: ServerProcess) -> Iterator[Outsider]:
    with Outsider(server.address) as outsider:
        outsider.service()
        yield outsider


@pytest.fixture(scope="module")
def valid(outsider: Outsider) -> bytes:
    """A request for one row."""
    return request(outsider)


def request(outsider: Outsider, *, raw: bytes | None = rows().tobytes(), **tensor: Any) -> bytes:
    fields = {"name": "x", "datatype": "FP32", "shape": [1, 3], **tensor}
    message = outsider.message("ModelInferRequest")(
        model_name="m", inputs=[fields], raw_input_contents=[] if raw is None else [raw]
    )
    text: bytes = message.SerializeToString()
    return text


def is_answered(outsider: Outsider, valid: bytes) -> bool:
    response = outsider.message("ModelInferResponse").FromString(outsider.send(valid))
    (raw,) = response.raw_output_contents
    return bool((np.frombuffer(raw, "float32") == 2).all())


@pytest.fixture(autouse=True)
def still_answers(outsider: Outsider, valid: bytes) -> Iterator[None]:
    yield
    assert is_answered(outsider, valid)
    with Outsider(outsider.address) as another:  # over a connection of its own
        assert is_answered(another, valid)


def refused(
    outsider: Outsider, message: bytes, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT
) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        outsider.send(message)
    assert caught.value.code() == code, caught.value
    sentence: str = caught.value.details()
    assert sentence
    assert "\n" not in sentence
    return sentence


# Messages


def varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


@pytest.mark.parametrize(
    "message",
    [
        b"\xff" * 64,
        b"\x0a",
        b"\x0a\x05m",  # a name of five bytes, of which one is there
        b"\x0a" + varint(1 << 31) + b"m",
        b"\x0a" + b"\xff" * 10 + b"m",  # longer than any varint
        b"\x2a" + varint((1 << 63) - 1) + b"x",  # an input
        b"\x3a" + varint((1 << 32) - 1) + bytes(100),  # raw contents
        b"\x2a\x04\x0a\x7fxy",  # an input whose name is longer than it is
        b"\x0a\x01m" * 3 + b"\x0b\x0b\x0b",  # groups without end
        b"\x0a\x02\xc3\x28",  # a text that is no UTF-8
        b"\x2a\x02" * 50_000,
    ],
    ids=lambda message: message[:8].hex(),
)
def test_what_is_no_message_is_refused(outsider: Outsider, message: bytes) -> None:
    assert "ModelInferRequest" in refused(outsider, message)
    (answer,) = outsider.stream([message])
    streamed = outsider.message("ModelStreamInferResponse").FromString(answer)
    assert "ModelInferRequest" in streamed.error_message


def test_an_empty_message_is_refused(outsider: Outsider) -> None:
    assert refused(outsider, b"", grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize(
    "shape",
    [
        [-1, 3],
        [1, -3],
        [1 << 62, 1 << 62],
        [1 << 40, 3],
        [(1 << 63) - 1],
        [2, 3],
        [3],
        [],
        [1] * 9999,
        [0, 3],
    ],
    ids=lambda shape: str(shape[:2]),
)
def test_shapes_that_do_not_fit_are_refused(outsider: Outsider, shape: list[int]) -> None:
    assert "x" in refused(outsider, request(outsider, shape=shape))
    numbers = {"fp32_contents": [1.0, 1.0, 1.0]}
    assert "x" in refused(outsider, request(outsider, raw=None, shape=shape, contents=numbers))


@pytest.mark.parametrize("size", [0, 1, 11, 13, 24, 1 << 20])
def test_raw_contents_of_another_size_are_refused(outsider: Outsider, size: int) -> None:
    sentence = refused(outsider, request(outsider, raw=bytes(size)))
    assert "x" in sentence
    assert str(size) in sentence


@pytest.mark.parametrize("count", [1, 2, 4, 300_000])
def test_another_number_of_numbers_is_refused(outsider: Outsider, count: int) -> None:
    sentence = refused(outsider, request(outsider, raw=None, contents={"fp32_contents": [1.0] * count}))
    assert "x" in sentence
    assert str(count) in sentence


def test_numbers_and_raw_contents_together_are_refused(outsider: Outsider) -> None:
    assert "contents" in refused(outsider, request(outsider, contents={"fp32_contents": [1.0] * 3}))


def test_an_input_without_numbers_is_refused(outsider: Outsider) -> None:
    assert "x" in refused(outsider, request(outsider, raw=None))


@pytest.mark.parametrize(
    "tensor",
    [{"name": ""}, {"name": "x" * 100_000}, {"name": "é\0\n"}, {"datatype": ""}, {"datatype": "FP" * 50_000}],
    ids=["no name", "long name", "odd name", "no datatype", "long datatype"],
)
def test_names_that_mean_nothing_are_refused_in_a_short_sentence(
    outsider: Outsider, tensor: dict[str, str]
) -> None:
    assert len(refused(outsider, request(outsider, **tensor))) <= 2000


def test_a_model_whose_name_is_long_is_not_found_in_a_short_sentence(outsider: Outsider) -> None:
    message = outsider.message("ModelInferRequest")(model_name="é\n" * 100_000)
    assert len(refused(outsider, message.SerializeToString(), grpc.StatusCode.NOT_FOUND)) <= 2000


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_message_gets_a_status(outsider: Outsider, valid: bytes, data: st.DataObject) -> None:
    message = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, len(message) - 1)))
        until = at + data.draw(st.integers(0, 4))
        message[at:until] = data.draw(st.binary(max_size=4))
    try:
        outsider.send(bytes(message))
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), error
    assert is_answered(outsider, valid)


def test_messages_of_a_hundred_megabytes_are_refused_and_not_kept(
    server: ServerProcess, outsider: Outsider
) -> None:
    before = server.memory_bytes()
    for _ in range(5):
        assert str(LIMIT_BYTES) in refused(outsider, bytes(100 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert eventually(lambda: server.memory_bytes() < before + ALLOWED_BYTES)


def test_messages_that_are_nearly_too_long_are_not_kept(server: ServerProcess, outsider: Outsider) -> None:
    before = server.memory_bytes()
    filler = b"\x7a" + varint(LIMIT_BYTES - 100) + bytes(LIMIT_BYTES - 100)  # a field that nobody knows
    for _ in range(16):
        refused(outsider, filler, grpc.StatusCode.NOT_FOUND)
        refused(outsider, b"\xff" * LIMIT_BYTES)
    del filler
    assert eventually(lambda: server.memory_bytes() < before + ALLOWED_BYTES)


def test_a_message_that_unpacks_to_more_than_the_limit_is_refused(outsider: Outsider) -> None:
    call = outsider.channel.unary_unary(INFER)
    with pytest.raises(grpc.RpcError) as caught:
        call(bytes(100 << 20), timeout=PATIENCE_S, compression=grpc.Compression.Gzip)
    assert caught.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)


def test_calls_that_are_not_there_are_unimplemented(outsider: Outsider) -> None:
    for path in ("/inference.GRPCInferenceService/Nothing", "/nothing/Nothing", "/", "/" + "x" * 3000):
        with pytest.raises(grpc.RpcError) as caught:
            outsider.send(b"", path)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


# Connections


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """One of HTTP/2; `length` may lie."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def headers(path: str = INFER) -> bytes:
    """POST http, a path, an authority, application/grpc, te: trailers; none of them put into the table."""
    fields = ((b"\x04", path), (b"\x01", "t"), (b"\x0f\x10", "application/grpc"), (b"\x00\x02te", "trailers"))
    return b"\x83\x86" + b"".join(name + bytes([len(value)]) + value.encode() for name, value in fields)


OPENING = PREFACE + frame(SETTINGS, 0, 0)
CALL = frame(HEADERS, END_HEADERS, 1, headers())


def prefixed(message: bytes, length: int | None = None, flags: int = 0) -> bytes:
    return struct.pack(">BI", flags, len(message) if length is None else length) + message


@contextlib.contextmanager
def connected(server: ServerProcess) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
        yield connection


def sent_on(server: ServerProcess, *parts: bytes) -> bytes:
    """What comes back until the server closes, once our side is closed."""
    received = b""
    with connected(server) as connection, contextlib.suppress(ConnectionError):
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
        OPENING + CALL + frame(DATA, END_STREAM, 1, prefixed(b"abc", length=100)),
        OPENING + CALL + frame(DATA, END_STREAM, 1, prefixed(b"abc", length=(1 << 32) - 1)),
        OPENING + CALL + frame(DATA, END_STREAM, 1, prefixed(b"abc", flags=1)),  # compressed, it says
        OPENING + CALL + frame(DATA, END_STREAM, 1, prefixed(b"abc", flags=77)),
        OPENING + CALL + frame(DATA, END_STREAM, 1, b"\0\0"),
        OPENING + CALL + frame(DATA, END_STREAM, 1),
        OPENING + CALL + frame(DATA, END_STREAM, 1, 3 * prefixed(b"abc")),  # three where one is right
        OPENING + CALL + frame(RST_STREAM, 0, 1, b"12"),
        OPENING + CALL + frame(GOAWAY, 0, 0, bytes(8)),
    ],
    ids=range(28),
)
def test_broken_http2_ends_its_connection_and_no_other(server: ServerProcess, sent: bytes) -> None:
    sent_on(server, sent)


def test_connections_that_say_nothing_keep_nobody_waiting(
    server: ServerProcess, outsider: Outsider, valid: bytes
) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(200):
            connection = stack.enter_context(connected(server))
            connection.sendall((b"", PREFACE, OPENING, OPENING + CALL)[number % 4])
        with Outsider(outsider.address) as another:
            assert is_answered(another, valid)


def flood(server: ServerProcess, piece: Callable[[int], bytes], pieces: int) -> None:
    """Sends all of it, or as much as the server lets it, and reads nothing."""
    with connected(server) as connection, contextlib.suppress(OSError):
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
        lambda number: 1000 * frame(PING, 0, 0, bytes(8)),
        lambda number: 1000 * frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff"),
        lambda number: frame(CONTINUATION if number else HEADERS, 0, 1, 16_000 * b"\x82"),
        lambda number: (b"" if number else CALL) + 1000 * frame(DATA, 0, 1),
    ],
    ids=["calls taken back", "pings", "settings", "headers without end", "empty data"],
)
def test_a_flood_is_survived_and_not_kept(server: ServerProcess, piece: Callable[[int], bytes]) -> None:
    before = server.memory_bytes()
    flood(server, piece, 100)
    assert eventually(lambda: server.memory_bytes() < before + ALLOWED_BYTES)
