"""What goes wrong with a request, as a status and a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus

from paddleinfer.errors import (
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    EngineClosed,
    InvalidInput,
    ModelError,
    ModelLoadError,
    QueueFull,
)

__all__ = ["STATUSES", "RequestError", "ServerEnded", "bad_request", "status_of"]

STATUSES: dict[type[BaseException], HTTPStatus] = {
    InvalidInput: HTTPStatus.BAD_REQUEST,
    ConfigError: HTTPStatus.BAD_REQUEST,
    QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
    DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    Cancelled: HTTPStatus.SERVICE_UNAVAILABLE,
    EngineClosed: HTTPStatus.SERVICE_UNAVAILABLE,
    ModelLoadError: HTTPStatus.BAD_REQUEST,
    ModelError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""Looked up by the classes of an error, the nearest first."""


class RequestError(Exception):
    """A request that gets no result.

    Attributes
    ----------
    status
        Of the answer.
    message
        Its ``error``.
    headers
        Further ones.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = int(status)
        self.message = message
        self.headers = dict(headers or {})


class ServerEnded(RequestError):
    """The server waits no longer for a request that is under way."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, "the server ended before this request was over")


def bad_request(message: str) -> RequestError:
    """400."""
    return RequestError(HTTPStatus.BAD_REQUEST, message)


def status_of(error: BaseException) -> RequestError:
    """The answer to an error of the engine; 500 and nothing of its text for one that nobody expected."""
    for kind in type(error).__mro__:
        if kind in STATUSES:
            headers = {}
            if isinstance(error, QueueFull):
                headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
            return RequestError(STATUSES[kind], str(error), headers)
    return RequestError(
        HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed on this request; its log says how"
    )
