"""HTTP/2 by hand: frames of calls as no client would send them, and what comes back."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from grpc_outsider import INFER

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """One of HTTP/2; `length` may lie."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def text(value: str) -> bytes:
    return bytes([len(value)]) + value.encode()


def headers(path: str = INFER, kind: str = "application/grpc", **further: str) -> bytes:
    """POST http, a path, an authority, a content type, te: trailers and more; none is put into the table."""
    fields = ((b"\x04", path), (b"\x01", "t"), (b"\x0f\x10", kind), (b"\x00\x02te", "trailers"))
    named = ((b"\x00" + text(name.replace("_", "-")), value) for name, value in further.items())
    return b"\x83\x86" + b"".join(name + text(value) for name, value in (*fields, *named))


OPENING = PREFACE + frame(SETTINGS, 0, 0)
DEAF_OPENING = PREFACE + frame(SETTINGS, 0, 0, b"\0\4\0\0\0\0")
"""Of a client that has room for no byte of an answer."""
CALL = frame(HEADERS, END_HEADERS, 1, headers())


def prefixed(message: bytes, length: int | None = None, flags: int = 0) -> bytes:
    return struct.pack(">BI", flags, len(message) if length is None else length) + message


def whole_call(stream: int, message: bytes, path: str = INFER) -> bytes:
    """A call of one message, on a stream of this number."""
    opened = frame(HEADERS, END_HEADERS, stream, headers(path))
    return opened + frame(DATA, END_STREAM, stream, prefixed(message))


def frames(connection: socket.socket) -> Iterator[tuple[int, int]]:
    """Kind and stream of what comes, until the connection is closed."""
    received = b""
    while part := connection.recv(1 << 16):
        received += part
        while len(received) >= 9 and len(received) >= (end := 9 + int.from_bytes(received[:3], "big")):
            yield received[3], int.from_bytes(received[5:9], "big")
            received = received[end:]
