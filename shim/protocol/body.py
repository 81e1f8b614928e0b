"""Reads bodies of requests up to a limit, and decompresses and compresses bodies."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from paddleinfer.sentences import shown

from .buffered_bytes import HeldBytes
from .errors import RequestError, bad_request

__all__ = [
    "BodyLimit",
    "ClientGone",
    "Headers",
    "Message",
    "Receive",
    "Send",
    "accepted_encoding",
    "byte_count",
    "compressed",
    "read_body",
]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = dict[bytes, bytes]

# Larger bodies are decompressed on another thread, so that the event loop goes on.
_LONG_BYTES = 1 << 18
# Compressing this much takes 0.5 ms; answers of many requests may be ready at once.
_LONG_TO_COMPRESS_BYTES = 16 << 10
_LONG_JOIN_BYTES = 8 << 20
# Compressing less than this gains nothing.
_WORTHWHILE_BYTES = 1024
# A body is decompressed this much at a time, if there is room for it.
_INFLATED_BYTES = 4 << 20
_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS


# A number with more digits is not a size, and takes int() more than linear time.
_MOST_DIGITS: Final = 18
# A longer Accept-Encoding is not read.
_MOST_ACCEPTED_BYTES: Final = 1024


class ClientGone(Exception):
    """The client left before its request was whole; nobody waits for an answer."""


def byte_count(headers: Headers, name: bytes) -> int:
    """Reads a number of bytes from a header, 0 without it; raises RequestError 400 for anything else."""
    text = headers.get(name, b"0")
    if not text.isdigit() or len(text) > _MOST_DIGITS:
        spelled = name.decode().title()
        raise bad_request(
            f"{spelled} must be a number of bytes, of {_MOST_DIGITS} digits at most, "
            f"not {shown(text.decode('latin-1'))}"
        )
    return int(text)


class BodyLimit(NamedTuple):
    """The largest size of a body."""

    bytes: int
    option: str
    """The option that sets it."""

    def refusal(self, what: str = "body") -> RequestError:
        """413."""
        return RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the {what} is larger than the {self.bytes} bytes that {self.option} allows",
            {"Connection": "close"},
        )


async def read_body(receive: Receive, headers: Headers, limit: BodyLimit, held: HeldBytes) -> bytes:
    """Reads the whole body of a request and decompresses it; `held` is told its size.

    Raises
    ------
    RequestError
        413: it exceeds the limit, before or after decompression; 429: `held` has no room for it;
        415: an unknown encoding; 400: damaged.
    ClientGone
        The client left.
    """
    if byte_count(headers, b"content-length") > limit.bytes:
        raise limit.refusal()
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientGone
    if len(body) > limit.bytes:
        raise limit.refusal()
    held.resize(len(body))
    if message.get("more_body"):
        body = await _rest(receive, body, limit, held)
    encoding = headers.get(b"content-encoding")
    if encoding is None:
        return body
    body = await _decompressed(body, encoding.decode("latin-1").strip().lower(), limit, held)
    held.resize(len(body))
    return body


async def _rest(receive: Receive, first: bytes, limit: BodyLimit, held: HeldBytes) -> bytes:
    parts, count = [first], len(first)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        count += len(parts[-1])
        if count > limit.bytes:
            raise limit.refusal()
        held.resize(count)
        more = message.get("more_body", False)
    if count > _LONG_JOIN_BYTES:
        return await asyncio.to_thread(b"".join, parts)
    return b"".join(parts)


async def _decompressed(body: bytes, encoding: str, limit: BodyLimit, held: HeldBytes) -> bytes:
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the body has the Content-Encoding {shown(encoding)}; gzip and deflate are understood",
        )
    inflating = _Inflating(body, encoding, limit)
    # A small body may become a large one when it is decompressed.
    if inflating.go_on(_LONG_BYTES):
        return inflating.whole()
    is_whole = False
    while not is_whole and inflating.made_bytes <= limit.bytes:
        held.resize(len(body) + inflating.made_bytes + _INFLATED_BYTES)
        is_whole = await asyncio.to_thread(inflating.go_on, _INFLATED_BYTES)
    return await asyncio.to_thread(inflating.whole)


class _Inflating:
    """Decompresses one body."""

    def __init__(self, body: bytes, encoding: str, limit: BodyLimit) -> None:
        self._encoding = encoding
        self._limit = limit
        window = _GZIP
        if encoding == "deflate":
            # RFC 9110 means a zlib stream, but some clients send a bare deflate stream.
            window = _ZLIB if len(body) > 1 and body[0] & 0x0F == 8 and _zlib_header(body) else _RAW
        self._inflater = zlib.decompressobj(window)
        self._left = body
        self._parts: list[bytes] = []
        self.made_bytes = 0

    def go_on(self, most_bytes: int) -> bool:
        """Decompresses at most `most_bytes` more; returns whether the stream is complete."""
        try:
            self._parts.append(self._inflater.decompress(self._left, most_bytes))
        except zlib.error as error:
            raise bad_request(f"the body is not a {self._encoding} stream: {error}") from None
        self._left = self._inflater.unconsumed_tail
        self.made_bytes += len(self._parts[-1])
        return len(self._parts[-1]) < most_bytes

    def whole(self) -> bytes:
        """Returns the whole decompressed body."""
        if self.made_bytes > self._limit.bytes:
            raise self._limit.refusal()
        if not self._inflater.eof or self._inflater.unused_data:
            lacks = "is cut short" if not self._inflater.eof else "goes on after its end"
            raise bad_request(f"the {self._encoding} stream of the body {lacks}")
        return b"".join(self._parts)


def _zlib_header(body: bytes) -> bool:
    return ((body[0] << 8) | body[1]) % 31 == 0


def accepted_encoding(headers: Headers, size_bytes: int) -> str | None:
    """Returns the encoding for a response of this size; None for none."""
    accepted = headers.get(b"accept-encoding")
    if accepted is None or size_bytes < _WORTHWHILE_BYTES or len(accepted) > _MOST_ACCEPTED_BYTES:
        return None
    best, best_quality = None, 0.0
    for part in accepted.decode("latin-1").split(","):
        name, _, parameters = part.strip().partition(";")
        quality = _quality(parameters)
        if name.strip().lower() in ("gzip", "deflate") and quality > best_quality:
            best, best_quality = name.strip().lower(), quality
    return best


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


async def compressed(body: bytes | bytearray, encoding: str) -> bytes:
    """Compresses the body in an encoding of accepted_encoding()."""
    if len(body) > _LONG_TO_COMPRESS_BYTES:
        return await asyncio.to_thread(_deflate, body, encoding)
    return _deflate(body, encoding)


def _deflate(body: bytes | bytearray, encoding: str) -> bytes:
    # Level 1 is enough: numbers hardly shrink further with more work.
    return gzip.compress(body, 1, mtime=0) if encoding == "gzip" else zlib.compress(body, 1)
