"""Writes requests and reads answers as bytes, for requests that no client library sends."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable

import orjson
from engine_helpers import rows
from http_helpers import INFER, json_tensor

BODY = orjson.dumps({"inputs": [json_tensor("x", rows())]})
# What takes a request, and the headers that send it there.
HANDLERS = {"fast path": b"", "application": b"Content-Encoding: identity\r\n"}


def post(headers: bytes = b"", body: bytes = BODY, host: bytes = b"Host: t\r\n", path: str = INFER) -> bytes:
    head = b"POST %b HTTP/1.1\r\n%b%bContent-Length: %d\r\n\r\n"
    return head % (path.encode(), host, headers, len(body)) + body


def get(path: str, headers: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: t\r\n%b\r\n" % (path.encode(), headers)


def send_apart(connection: socket.socket, pieces: Iterable[bytes]) -> None:
    """Each is meant to come in a packet of its own; the tests hold either way."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        connection.sendall(piece)
        time.sleep(0.02)


def answers(connection: socket.socket) -> list[tuple[int, bytes]]:
    """Status and body of all answers until the server closes."""
    received = b""
    while part := connection.recv(1 << 20):
        received += part
    return split(received)


def split(received: bytes) -> list[tuple[int, bytes]]:
    """Status and body of answers that came behind each other, each with its length."""
    found = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        assert end, head
        line, *fields = head.lower().split(b"\r\n")
        (length,) = [int(field.split(b":")[1]) for field in fields if field.startswith(b"content-length:")]
        found.append((int(line.split(b" ")[1]), received[:length]))
        received = received[length:]
    return found


def sentence(answer: tuple[int, bytes]) -> str:
    """Of a refusal."""
    document = orjson.loads(answer[1])
    assert list(document) == ["error"]
    message: str = document["error"]
    assert message and "\n" not in message
    return message
