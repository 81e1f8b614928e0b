"""Provides a client that costs hardly anything: HTTP/1.1 over one kept connection, on the bare socket."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Buffer = bytes | memoryview
_MOST_AT_ONCE_BYTES = 65536
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Answer:
    """The headers of a 200, by their lower-case names, and its body."""

    headers: dict[str, str]
    body: memoryview


def request(path: str, headers: dict[str, str], body: Sequence[Buffer]) -> list[Buffer]:
    """Returns the bytes to send; the tensor itself is not copied."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {sum(map(len, body))}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return [("\r\n".join(lines) + "\r\n\r\n").encode(), *body]


class Connection:
    """One kept connection; a request is sent once the previous answer is complete."""

    def __init__(self, family: socket.AddressFamily, address: Any) -> None:
        self._family = family
        self._address = address
        self._socket = socket.socket(family, socket.SOCK_STREAM)

    def open(self) -> None:
        """Connects, or reconnects."""
        self._socket.close()
        self._socket = socket.socket(self._family, socket.SOCK_STREAM)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(self._address)
        if self._family != socket.AF_UNIX:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, parts: Sequence[Buffer]) -> Answer:
        """Sends a request and returns the answer; raises OSError for any answer but a 200."""
        self._send(parts)
        head, rest = self._head()
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = self._body(int(headers["content-length"]), rest)
        if status.split(" ")[1] != "200":
            raise OSError(f"{status}: {bytes(body[:200])!r}")
        return Answer(headers, body)

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()

    def _send(self, parts: Sequence[Buffer]) -> None:
        # One call makes a small request one packet; of a large one the kernel may take only a part.
        sent = self._socket.sendmsg(parts)
        for part in parts:
            if sent < len(part):
                self._socket.sendall(memoryview(part)[sent:])
            sent = max(0, sent - len(part))

    def _head(self) -> tuple[bytes, bytes]:
        received = b""
        while b"\r\n\r\n" not in received:
            more = self._socket.recv(_MOST_AT_ONCE_BYTES)
            if not more:
                raise ConnectionError("the server hung up")
            received += more
        head, _, rest = received.partition(b"\r\n\r\n")
        return head, rest

    def _body(self, length: int, rest: bytes) -> memoryview:
        if len(rest) == length:
            return memoryview(rest)
        body = memoryview(bytearray(length))
        body[: len(rest)] = rest
        filled = len(rest)
        while filled < length:
            count = self._socket.recv_into(body[filled:])
            if not count:
                raise ConnectionError("the server hung up")
            filled += count
        return body
