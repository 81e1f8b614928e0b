"""Checks by which names a server is called, and what pages of other sites may have a browser do."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from paddleinfer.sentences import shown

from ..protocol.body import Headers
from ..protocol.errors import RequestError

__all__ = ["AllowedHosts", "check_same_site", "is_host_pattern"]

_NAME: Final = re.compile(r"(?:\*\.)?[\w~%-]+(?:\.[\w~%-]+)*", re.ASCII)
_DEFAULT_PORTS: Final = {b"http": b"80", b"https": b"443"}


def is_host_pattern(text: str) -> bool:
    """Tells whether --allowed-hosts takes this: a name or address without a port, or ``*.`` and a name."""
    if _NAME.fullmatch(text):
        return True
    try:
        ipaddress.IPv6Address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


class AllowedHosts:
    """The names that a Host header may have."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._any = not patterns
        self._names = {pattern.lower().strip("[]").encode() for pattern in patterns if pattern[0] != "*"}
        self._suffixes = tuple(pattern[1:].lower().encode() for pattern in patterns if pattern[0] == "*")

    def __contains__(self, host: bytes) -> bool:
        if self._any:
            return True
        name = _name_and_port(host)[0]
        return name in self._names or name.endswith(self._suffixes)

    def check(self, headers: Headers) -> None:
        """Raises RequestError 421 for a request to another name."""
        if self._any:
            return
        host = headers.get(b"host", b"")
        if host not in self:
            raise RequestError(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"the Host {shown(host.decode('latin-1'))} is none of those that --allowed-hosts names",
            )

    def names(self, host: bytes) -> bool:
        """Tells whether --allowed-hosts is given and names this host."""
        return not self._any and host in self


def check_same_site(headers: Headers, hosts: AllowedHosts) -> None:
    """Raises RequestError 403 for a request that another site's page makes a browser send.

    Only browsers send these headers, and no page can change them.
    """
    if headers.get(b"sec-fetch-site", b"").lower() == b"cross-site":
        raise _foreign("Sec-Fetch-Site says cross-site")
    origin = headers.get(b"origin")
    if origin is None:
        return
    scheme, separator, place = origin.lower().partition(b"://")
    if separator:
        port = _DEFAULT_PORTS.get(scheme, b"")
        theirs, ours = _name_and_port(place, port), _name_and_port(headers.get(b"host", b""), port)
        if theirs == ours or hosts.names(place):
            return
    raise _foreign(f"its Origin is {shown(origin[:200].decode('latin-1'))}, which is not this Host")


def _foreign(why: str) -> RequestError:
    sentence = f"a page of another site cannot change models or ask services here: {why}"
    return RequestError(HTTPStatus.FORBIDDEN, sentence)


def _name_and_port(host: bytes, default_port: bytes = b"") -> tuple[bytes, bytes]:
    """Splits ``HOST:PORT``; an IPv6 address loses its brackets."""
    if host.startswith(b"["):
        name, _, port = host[1:].partition(b"]")
        port = port.removeprefix(b":")
    else:
        name, _, port = host.partition(b":")
    return name.lower().removesuffix(b"."), port or default_port
