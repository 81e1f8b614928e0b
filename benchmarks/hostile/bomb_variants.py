"""Connects bench_bombs to its server: the process and its memory, and bombs over HTTP or gRPC."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from benchmarks import harness
from benchmarks.hostile.bomb_watch import PATIENCE_S
from benchmarks.transport.grpc import channel
from tests.support import bombs, grpc_bombs

__all__ = ["GrpcBomb", "HttpBomb", "Server"]

_SERVES = re.compile(r"serves (on http|gRPC on)\b.*:(\d+)")


class Server:
    """The process, and its memory by the kernel's count."""

    def __init__(self) -> None:
        # Large blocks are returned at once, so that the next peak shows all memory taken then.
        environment = {**harness.quiet_environment(), "MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.hostile.bomb_server"],
            cwd=harness.REPOSITORY,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        ports: dict[str, int] = {}
        for line in self._process.stdout:
            if (found := _SERVES.search(line)) is not None:
                ports[found[1]] = int(found[2])
            if len(ports) == 2:
                break
        self.port = ports["on http"]
        self.channel = channel(f"127.0.0.1:{ports['gRPC on']}")

    def connect(self) -> socket.socket:
        """Opens a connection over HTTP, with a timeout as long as a request may take."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    def forget_peak(self) -> int:
        """Begins a new peak, and returns the bytes that are resident now."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")
        return self._status("VmRSS")

    def peak(self) -> int:
        """Returns the most bytes that were resident since."""
        return self._status("VmHWM")

    def _status(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{self._process.pid}/status").read_text())
        assert found is not None
        return int(found[1]) << 10

    def close(self) -> None:
        """Ends it."""
        self.channel.close()
        self._process.terminate()
        self._process.wait(PATIENCE_S)


@dataclass(frozen=True)
class HttpBomb:
    """One request over HTTP."""

    bomb: bombs.Bomb

    @property
    def name(self) -> str:
        """The route, and what is wrong with the request."""
        return self.bomb.name

    @property
    def size_bytes(self) -> int:
        """The size of the request, after decompression."""
        return self.bomb.size_bytes

    def send(self, server: Server) -> int:
        """Sends it until the answer is whole or the connection closed; returns the answer's bytes."""
        with server.connect() as connection:
            sending = threading.Thread(target=_send, args=(connection, self.bomb.wire))
            sending.start()
            size = sum(map(len, _parts(connection)))
            sending.join()
        return size


def _send(connection: socket.socket, wire: bytes) -> None:
    with contextlib.suppress(OSError):  # refused before it was whole
        connection.sendall(wire)


def _parts(connection: socket.socket) -> Iterator[bytes]:
    """Until the answer is whole."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = _received(connection)
        if not part:
            return
        head += part
    head, _, body = head.partition(b"\r\n\r\n")
    yield head + body
    found = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    left = (int(found[1]) if found else 0) - len(body)
    while left > 0:
        part = _received(connection)
        if not part:
            return
        left -= len(part)
        yield part


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 20)
    except ConnectionError:
        return b""


@dataclass(frozen=True)
class GrpcBomb:
    """One message of one call over gRPC."""

    bomb: grpc_bombs.Bomb
    compressed: bool

    @property
    def name(self) -> str:
        """The method, and what is wrong with the message."""
        packed = ", gzip" if self.compressed else ""
        return f"{self.bomb.path}: {self.bomb.name}, {self.size_bytes >> 10} KiB{packed}"

    @property
    def size_bytes(self) -> int:
        """The size of the message, before compression."""
        return len(self.bomb.message)

    def send(self, server: Server) -> int:
        """Sends it, waits for the first answer, and returns its bytes."""
        compression = grpc.Compression.Gzip if self.compressed else None
        path, message = self.bomb.path, self.bomb.message
        try:
            if path not in grpc_bombs.STREAMS:
                ask = server.channel.unary_unary(path)
                return len(ask(message, timeout=PATIENCE_S, compression=compression))
            answers = server.channel.stream_stream(path)(
                iter([message]), timeout=PATIENCE_S, compression=compression
            )
            size = len(next(answers))
            answers.cancel()
            return size
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                raise SystemExit(f"{self.name}: {error}") from error
            return 0
