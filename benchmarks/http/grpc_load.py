"""Loads a server over gRPC at little cost, as wrk does over HTTP, from one thread of its own process.

Each connection makes one call at a time, and the next as soon as the previous answer is whole. HTTP/2 frames
are written and read here: except for the stream's number all calls are the same bytes, so nothing is encoded.

``python -m benchmarks.http.grpc_load PORT PATH CONNECTIONS SECONDS < MESSAGE`` prints JSON, as wrk_post.lua
does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import numpy as np
import uvloop

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_HEAD_BYTES = 9
_INITIAL_WINDOW_SIZE = 4
_WINDOW_BYTES = 65535
_MOST_BYTES = (1 << 31) - 1
# How much is read before the server is told that there is room again.
_REFILL_BYTES = 1 << 20


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Makes a frame: length, kind, flags, stream, payload."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _text(text: bytes) -> bytes:
    if len(text) >= 127:
        raise ValueError(f"a header of {len(text)} bytes is longer than this client writes")
    return bytes([len(text)]) + text


def header_blocks(path: str, authority: str) -> tuple[bytes, bytes]:
    """Returns HPACK of a connection's first call, which fills the header table, and of all later ones."""
    method_post, scheme_http = b"\x83", b"\x86"
    named = ((b"\x44", path), (b"\x41", authority), (b"\x5f", "application/grpc"))
    first = b"".join(name + _text(value.encode()) for name, value in named)
    first += b"\x40" + _text(b"te") + _text(b"trailers")
    return method_post + scheme_http + first, method_post + scheme_http + b"\xc1\xc0\xbf\xbe"


class Counted:
    """The counts of all connections."""

    def __init__(self) -> None:
        self.over = False
        self.seconds: list[float] = []
        self.bad = 0
        self.broken = 0


class Connection(asyncio.Protocol):
    """One connection with one call under way."""

    def __init__(self, counted: Counted, path: str, authority: str, message: bytes) -> None:
        self._counted = counted
        self._first, self._later = header_blocks(path, authority)
        self._body = b"\0" + len(message).to_bytes(4, "big") + message
        if len(self._body) > _WINDOW_BYTES:
            raise ValueError(f"a message of {len(message)} bytes is more than one call may send at once")
        self._stream = -1
        self._window = _WINDOW_BYTES
        self._waits_for_room = False
        self._unread = b""
        self._received_bytes = 0
        self._has_answer = False
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says how much may be sent to us, and asks."""
        self._transport = cast("asyncio.Transport", transport)
        settings = _INITIAL_WINDOW_SIZE.to_bytes(2, "big") + _MOST_BYTES.to_bytes(4, "big")
        room = (_MOST_BYTES - _WINDOW_BYTES).to_bytes(4, "big")
        self._transport.write(_PREFACE + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW_UPDATE, 0, 0, room))
        self._ask()

    def _ask(self) -> None:
        if self._counted.over:
            self._transport.close()
            return
        if self._window < len(self._body):
            self._waits_for_room = True
            return
        block = self._first if self._stream < 0 else self._later
        self._stream += 2
        self._window -= len(self._body)
        self._has_answer = False
        self._began = time.perf_counter()
        headers = frame(_HEADERS, _END_HEADERS, self._stream, block)
        self._transport.write(headers + frame(_DATA, _END_STREAM, self._stream, self._body))

    def data_received(self, data: bytes) -> None:
        """Takes whole frames, and keeps the rest."""
        data, at = self._unread + data, 0
        while len(data) - at >= _HEAD_BYTES:
            length = int.from_bytes(data[at : at + 3], "big")
            end = at + _HEAD_BYTES + length
            if len(data) < end:
                break
            stream = int.from_bytes(data[at + 5 : at + _HEAD_BYTES], "big")
            self._take(data[at + 3], data[at + 4], stream, data[at + _HEAD_BYTES : end])
            at = end
        self._unread = data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            # A message is at least its own five bytes of length; a call that failed has none.
            self._has_answer = self._has_answer or len(payload) > 5
            self._make_room(len(payload))
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
            if self._waits_for_room:
                self._waits_for_room = False
                self._ask()
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._transport.write(frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind in (_GOAWAY, _RST_STREAM):
            self._transport.close()
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            self._answered()

    def _make_room(self, length: int) -> None:
        self._received_bytes += length
        if self._received_bytes >= _REFILL_BYTES:
            self._transport.write(frame(_WINDOW_UPDATE, 0, 0, self._received_bytes.to_bytes(4, "big")))
            self._received_bytes = 0

    def _answered(self) -> None:
        if not self._counted.over:
            self._counted.seconds.append(time.perf_counter() - self._began)
            self._counted.bad += not self._has_answer
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        """Counts a failure if calls are still counted."""
        self._counted.broken += not self._counted.over


async def load(port: int, path: str, message: bytes, connections: int, seconds: float) -> dict[str, float]:
    """Runs all connections for so long; calls under way at the end do not count."""
    counted, loop = Counted(), asyncio.get_running_loop()
    begin = time.perf_counter()
    opened = [
        await loop.create_connection(
            lambda: Connection(counted, path, f"127.0.0.1:{port}", message), "127.0.0.1", port
        )
        for _ in range(connections)
    ]
    await asyncio.sleep(seconds)
    counted.over = True
    took = time.perf_counter() - begin
    for transport, _ in opened:
        transport.abort()
    await asyncio.sleep(0)
    p50, p99 = np.percentile(counted.seconds or [0.0], [50, 99])
    return {
        "requests": len(counted.seconds),
        "seconds": took,
        "refused": counted.bad,
        "broken": counted.broken,
        "p50_ms": 1e3 * p50,
        "p99_ms": 1e3 * p99,
    }


def main() -> None:
    """One load."""
    port, path, connections, seconds = sys.argv[1:]
    message = sys.stdin.buffer.read()
    loaded = load(int(port), path, message, int(connections), float(seconds))
    loop = uvloop.new_event_loop()
    print(json.dumps(loop.run_until_complete(loaded)))
    loop.close()


if __name__ == "__main__":
    main()
