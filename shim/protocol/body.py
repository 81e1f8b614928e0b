"""Bodies of requests and responses: read up to a limit, compressed and uncompressed."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from .errors import RequestError, bad_request

__all__ = ["Headers", "Message", "Receive", "Send", "accepted_encoding", "compressed", "read_body"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = dict[bytes, bytes]

# Of more than this the work is done on another thread, so that the event loop goes on.
_LONG_BYTES = 1 << 18
# Of less than this compression gains nothing.
_WORTHWHILE_BYTES = 1024
_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS


class ClientGone(Exception):
    """The client left before its request was whole: nobody is there to be answered."""


async def read_body(receive: Receive, headers: Headers, max_bytes: int) -> bytes:
    """The whole body of a request, decompressed.

    Raises
    ------
    RequestError
        413: more than `max_bytes`, also after decompression; 415: an unknown encoding; 400: damaged.
    ClientGone
        The client left.
    """
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise ClientGone
    if message.get("more_body"):
        body = await _rest(receive, body, max_bytes)
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    encoding = headers.get(b"content-encoding")
    if encoding is None:
        return body
    return await _decompressed(body, encoding.decode("latin-1").strip().lower(), max_bytes)


async def _rest(receive: Receive, first: bytes, max_bytes: int) -> bytes:
    parts, count = [first], len(first)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        count += len(parts[-1])
        if count > max_bytes:
            raise _too_large(max_bytes)
        more = message.get("more_body", False)
    return b"".join(parts)


async def _decompressed(body: bytes, encoding: str, max_bytes: int) -> bytes:
    if encoding == "identity":
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"the body has the Content-Encoding {encoding!r}; gzip and deflate are understood",
        )
    if len(body) > _LONG_BYTES:
        return await asyncio.to_thread(_inflate, body, encoding, max_bytes)
    return _inflate(body, encoding, max_bytes)


def _inflate(body: bytes, encoding: str, max_bytes: int) -> bytes:
    if encoding == "deflate":
        # By RFC 9110 a zlib stream; some clients send a bare one.
        window = _ZLIB if body[:1] and body[0] & 0x0F == 8 and len(body) > 1 and _zlib_header(body) else _RAW
    else:
        window = _GZIP
    inflater = zlib.decompressobj(window)
    try:
        whole = inflater.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise bad_request(f"the body is no {encoding} stream: {error}") from None
    if len(whole) > max_bytes:
        raise _too_large(max_bytes)
    if not inflater.eof or inflater.unused_data:
        lacks = "is cut short" if not inflater.eof else "goes on after its end"
        raise bad_request(f"the {encoding} stream of the body {lacks}")
    return whole


def _zlib_header(body: bytes) -> bool:
    return ((body[0] << 8) | body[1]) % 31 == 0


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than the {max_bytes} bytes that --max-body-bytes allows",
        {"Connection": "close"},
    )


def accepted_encoding(headers: Headers, size_bytes: int) -> str | None:
    """The encoding in which so large a response should go; None for as it is."""
    accepted = headers.get(b"accept-encoding")
    if accepted is None or size_bytes < _WORTHWHILE_BYTES:
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


async def compressed(body: bytes, encoding: str) -> bytes:
    """The body in an encoding of accepted_encoding()."""
    if len(body) > _LONG_BYTES:
        return await asyncio.to_thread(_deflate, body, encoding)
    return _deflate(body, encoding)


def _deflate(body: bytes, encoding: str) -> bytes:
    # Level 1: numbers hardly shrink further with more work.
    return gzip.compress(body, 1, mtime=0) if encoding == "gzip" else zlib.compress(body, 1)
