"""Describes what goes wrong with a request, as a status and a sentence."""

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
    OutOfMemory,
    QueueFull,
    ServiceError,
    ThreadStartError,
)
from paddleinfer.sentences import printable, shortened

__all__ = ["STATUSES", "RequestError", "ServerEnded", "bad_request", "to_request_error"]

STATUSES: dict[type[BaseException], HTTPStatus] = {
    InvalidInput: HTTPStatus.BAD_REQUEST,
    ConfigError: HTTPStatus.BAD_REQUEST,
    QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
    DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    Cancelled: HTTPStatus.SERVICE_UNAVAILABLE,
    EngineClosed: HTTPStatus.SERVICE_UNAVAILABLE,
    ModelLoadError: HTTPStatus.BAD_REQUEST,
    ModelError: HTTPStatus.INTERNAL_SERVER_ERROR,
    ServiceError: HTTPStatus.INTERNAL_SERVER_ERROR,
    OutOfMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    ThreadStartError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The status of each class of errors; the nearest class of an error counts."""


class RequestError(Exception):
    """An error that answers a request.

    Attributes
    ----------
    status
        The status of the answer.
    message
        The answer's ``error``.
    headers
        Further headers.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.message = shortened(printable(shortened(message)))
        super().__init__(self.message)
        self.status = int(status)
        self.headers = dict(headers or {})


class ServerEnded(RequestError):
    """The server no longer waits for a request in flight."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, "the server ended before this request was over")


def bad_request(message: str) -> RequestError:
    """400."""
    return RequestError(HTTPStatus.BAD_REQUEST, message)


def to_request_error(error: BaseException) -> RequestError:
    """Turns the engine's error into an answer; an unexpected one gives 500, without its text."""
    if isinstance(error, RequestError):
        return error
    for kind in type(error).__mro__:
        if kind in STATUSES:
            headers = {}
            if isinstance(error, QueueFull):
                headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
            return RequestError(STATUSES[kind], str(error), headers)
    return RequestError(
        HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed on this request; its log says why"
    )
