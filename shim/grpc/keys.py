"""Checks the API key of a call."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from ..protocol.errors import RequestError
from ..service.service import Service

__all__ = ["has_key", "key_required"]


def has_key(service: Service, metadata: Iterable[tuple[str, str | bytes]] | None) -> bool:
    """Tells whether a call with this metadata has the service's key, if one is required."""
    given = dict(metadata or ()).get("authorization", "")
    return service.allows({b"authorization": given.encode() if isinstance(given, str) else given})


def key_required() -> RequestError:
    """Makes the error of a call without it."""
    return RequestError(HTTPStatus.UNAUTHORIZED, "an API key is required: send authorization: Bearer KEY")
