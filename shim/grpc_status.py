"""What goes wrong with a call, as a gRPC status: the same errors and the same sentences as over HTTP."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from paddleinfer.errors import Cancelled, QueueFull

from .errors import RequestError, status_of

__all__ = ["abort", "code_of", "sentence_of"]

_log = logging.getLogger("paddleinfer.grpc")

_CODES: Final = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
    HTTPStatus.NOT_IMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# Sentences travel in HTTP/2 headers, of which clients take 8 KiB.
_MOST_CHARACTERS: Final = 1024


def code_of(error: BaseException) -> grpc.StatusCode:
    """The code of an error of the engine or of a RequestError."""
    if isinstance(error, Cancelled):
        return grpc.StatusCode.CANCELLED
    return _CODES[HTTPStatus(_request_error(error).status)]


def sentence_of(error: BaseException) -> str:
    """What is said of it; short enough for a header."""
    message = _request_error(error).message
    return message if len(message) <= _MOST_CHARACTERS else f"{message[: _MOST_CHARACTERS - 1]}…"


async def abort(context: Any, error: BaseException) -> NoReturn:
    """Ends a call with the status of this error, and a RetryInfo where it says when to try again."""
    code, sentence = code_of(error), sentence_of(error)
    if code is grpc.StatusCode.INTERNAL:
        _log.error("a call failed", exc_info=error)
    retry_after_s = _retry_after_s(error)
    details = ()
    if retry_after_s is not None:
        status = Status(code=code.value[0], message=sentence)
        delay = Duration()
        delay.FromNanoseconds(round(retry_after_s * 1e9))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
        details = rpc_status.to_status(status).trailing_metadata
    await context.abort(code, sentence, details)
    raise AssertionError("abort() raises")


def _request_error(error: BaseException) -> RequestError:
    return error if isinstance(error, RequestError) else status_of(error)


def _retry_after_s(error: BaseException) -> float | None:
    if isinstance(error, QueueFull):
        return error.retry_after_s
    after = _request_error(error).headers.get("Retry-After")
    return None if after is None else float(after)
