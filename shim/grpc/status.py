"""Turns errors into gRPC statuses, with the same sentences as over HTTP."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from paddleinfer.errors import Cancelled, QueueFull

from ..protocol.errors import to_request_error

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
# Messages are sent in HTTP/2 headers, of which clients accept 8 KiB.
_MOST_BYTES: Final = 1024


def code_of(error: BaseException) -> grpc.StatusCode:
    """Returns the code of an error of the engine or of a RequestError."""
    if isinstance(error, Cancelled):
        return grpc.StatusCode.CANCELLED
    return _CODES[HTTPStatus(to_request_error(error).status)]


def sentence_of(error: BaseException) -> str:
    """Returns the message of an error, short enough for a header."""
    # Each character takes at least a byte, so whatever comes after these does not fit.
    message = to_request_error(error).message[: _MOST_BYTES + 1]
    # Each character takes at most 12 bytes.
    if len(message) * 12 <= _MOST_BYTES or sum(map(_size_in_header, message)) <= _MOST_BYTES:
        return message
    size = _size_in_header("…")
    for place, character in enumerate(message):
        size += _size_in_header(character)
        if size > _MOST_BYTES:
            return f"{message[:place]}…"
    return message


def _size_in_header(character: str) -> int:
    """Returns its bytes there: all but printable ASCII is written as %XX (gRPC's doc/PROTOCOL-HTTP2.md)."""
    return 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode(errors="replace"))


async def abort(context: Any, error: BaseException) -> NoReturn:
    """Ends a call with the status of this error, and with RetryInfo if it says when to try again."""
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
    try:
        await context.abort(code, sentence, details)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:  # an answer that its client does not read blocks it
        raise asyncio.CancelledError from None
    raise AssertionError("abort() raises")


def _retry_after_s(error: BaseException) -> float | None:
    if isinstance(error, QueueFull):
        return error.retry_after_s
    after = to_request_error(error).headers.get("Retry-After")
    return None if after is None else float(after)
