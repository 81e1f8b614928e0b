"""Checks the head of a request before anything in it is acted on, whichever handler takes the request."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from ..protocol.body import Headers
from ..protocol.errors import RequestError, bad_request

__all__ = ["MAX_HEADERS", "check_head", "check_target"]

MAX_HEADERS: Final = 128
"""The most header fields of a request."""

# Request smuggling needs two readers of one request that each pick another one of two values.
_ONCE: Final = (
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"content-encoding",
    b"content-type",
    b"inference-header-content-length",
    b"authorization",
    b"expect",
    b"origin",
    b"sec-fetch-site",
)
_HOST: Final = re.compile(
    rb"(?:[\w.~!$&'()*+,;=%-]{0,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?", re.ASCII
)
_MOST_HOST_BYTES: Final = 262
_VERSIONS: Final = ("1.1", "1.0")


@functools.lru_cache(256)
def _is_host(text: bytes) -> bool:
    return _HOST.fullmatch(text) is not None


def check_head(method: bytes, version: str, fields: Sequence[tuple[bytes, bytes]], headers: Headers) -> None:
    """Raises RequestError for a bad head; the connection has to end with it.

    `fields` are the headers as they came, with names in lower case; `headers` is a dictionary of them.
    """
    if version not in _VERSIONS:
        raise RequestError(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"HTTP/1.1 and HTTP/1.0 are understood, not {version}"
        )
    if method == b"CONNECT":
        raise RequestError(HTTPStatus.NOT_IMPLEMENTED, "this is no proxy: CONNECT is not offered")
    if len(headers) != len(fields):
        _check_doubles([name for name, _ in fields])
    host = headers.get(b"host")
    if host is None:
        if version == "1.1":
            raise bad_request("the request has no Host header, which HTTP/1.1 asks for")
    elif len(host) > _MOST_HOST_BYTES or not _is_host(host):
        raise bad_request("the Host header must be HOST or HOST:PORT")
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if version == "1.0":
            raise bad_request("HTTP/1.0 has no Transfer-Encoding; send a Content-Length")
        if coding.lower() != b"chunked":
            raise RequestError(
                HTTPStatus.NOT_IMPLEMENTED,
                "the Transfer-Encoding must be chunked alone; Content-Encoding is for what is compressed",
            )


def check_target(target: bytes, host: bytes | None) -> None:
    """Raises RequestError 400 unless the target is a path, or a URL of this `Host`, which a proxy may send.

    If the two name different servers, one reader may go by the one and another by the other.
    """
    if target == b"*":  # the target of OPTIONS
        return
    scheme, separator, rest = target.partition(b"://")
    authority, slash, _ = rest.partition(b"/")
    if not separator or not slash or scheme.lower() not in (b"http", b"https"):
        raise bad_request("the target of a request must be a path, such as /v2/health/live")
    if host is not None and authority.lower() != host.lower():
        raise bad_request("the target of the request names another host than its Host header")


def _check_doubles(names: Sequence[bytes]) -> None:
    for name in _ONCE:
        if names.count(name) > 1:
            raise bad_request(f"the request has more than one {name.decode().title()} header")
