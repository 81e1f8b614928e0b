"""What calls have in common: bytes -> message -> bytes, errors that become statuses, a line in the log."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from .errors import RequestError, bad_request
from .grpc_status import abort, code_of

__all__ = ["ACCESS_LOG", "Calls", "ending", "parsed"]

ACCESS_LOG: Final = logging.getLogger("paddleinfer.grpc.access")

Behaviour = Callable[[Any, Any], Awaitable[Any]]


def ending() -> RequestError:
    """Why a call is not taken any more."""
    return RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "the server is ending")


def parsed(kind: Any, body: bytes) -> Any:
    """The message that these bytes are; RequestError 400 where they are none."""
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise bad_request(f"the message is no {kind.DESCRIPTOR.full_name}: {error}") from None


class Calls:
    """Makes handlers for grpc.aio of coroutine functions that raise errors of the engine and RequestErrors.

    A handler takes and gives bytes, so that a damaged message gets a sentence, too.
    """

    def __init__(self) -> None:
        self._endless: set[asyncio.Task[Any]] = set()
        self._ending = False

    def unary(self, method: str, behaviour: Behaviour) -> grpc.RpcMethodHandler:
        """Of a call with one request and one response: (body, context) -> body."""
        return grpc.unary_unary_rpc_method_handler(_checked(method, behaviour))

    def stream(self, method: str, behaviour: Behaviour) -> grpc.RpcMethodHandler:
        """Of a call with many of both: (iterator of bodies, context), which writes to the context."""
        return grpc.stream_stream_rpc_method_handler(_checked(method, behaviour))

    def endless(self, behaviour: Behaviour) -> Behaviour:
        """The same behaviour for a call that would go on for ever: when the server ends, it does."""

        async def call(request: Any, context: Any) -> None:
            if self._ending:
                raise ending()
            task = asyncio.current_task()
            assert task is not None
            self._endless.add(task)
            try:
                await behaviour(request, context)
            except asyncio.CancelledError:
                if not self._ending:
                    raise
                raise ending() from None
            finally:
                self._endless.discard(task)

        return call

    def end_endless(self) -> None:
        """The server ends."""
        self._ending = True
        for task in self._endless:
            task.cancel()


def _checked(method: str, behaviour: Behaviour) -> Behaviour:
    async def call(request: Any, context: Any) -> Any:
        code = grpc.StatusCode.OK
        try:
            return await behaviour(request, context)
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.BaseError:  # the call has ended under it
            code = grpc.StatusCode.UNKNOWN
            raise
        except Exception as error:
            code = code_of(error)
            # grpc.aio keeps an abort in a cycle, traceback and all, which must not hold on to the message.
            del request
            traceback.clear_frames(error.__traceback__)
            await abort(context, error)
        finally:
            if ACCESS_LOG.isEnabledFor(logging.INFO):
                ACCESS_LOG.info('%s - "%s" %s', context.peer(), method, code.name)

    return call
