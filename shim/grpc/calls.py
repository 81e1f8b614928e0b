"""Makes the handlers of all calls: they turn bytes into messages and errors into statuses, and log."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

import grpc

from ..protocol.errors import RequestError
from .status import abort, code_of
from .transfers import Arrivals, Unsent

__all__ = ["ACCESS_LOG", "Behaviour", "Calls", "ending"]

ACCESS_LOG: Final = logging.getLogger("paddleinfer.grpc.access")

Behaviour = Callable[[Any, Any], Awaitable[Any]]


def ending() -> RequestError:
    """Makes the error of a call that arrives during the shutdown."""
    return RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "the server is ending")


class Calls:
    """Makes handlers for grpc.aio from coroutine functions that raise errors of the engine and RequestErrors.

    A handler takes and returns bytes, so that a damaged message gets a sentence, too.
    """

    def __init__(self, arrivals: Arrivals, unsent: Unsent) -> None:
        self._arrivals = arrivals
        self._unsent = unsent
        self._endless: set[asyncio.Task[Any]] = set()
        self._ending = False
        self._begun = 0

    def unary(self, method: str, behaviour: Behaviour) -> grpc.RpcMethodHandler:
        """Makes the handler of a call with one request and one response from (body, context) -> body."""

        async def call(_: Any, context: Any) -> bytes:
            task = asyncio.current_task()
            assert task is not None
            answer: bytes = await behaviour(await self._arrivals.read(context), context)
            self.wait_for_reader(task, len(answer))
            return answer

        # We read the message ourselves, to limit how many arrive at once.
        return grpc.stream_unary_rpc_method_handler(self._checked(method, call))

    def wait_for_reader(self, task: asyncio.Task[Any], size_bytes: int) -> None:
        """Counts the bytes of a call's only answer, which waits for its client until the call is over."""
        self._unsent.add(task, size_bytes)
        self._unsent.write(task)
        task.add_done_callback(self._unsent.discard)

    async def write(self, context: Any, payload: bytes) -> None:
        """Sends one of many answers of a call."""
        task = asyncio.current_task()
        assert task is not None
        self._unsent.add(task, len(payload))
        self._unsent.write(task)
        try:
            await context.write(payload)
        finally:
            self._unsent.discard(task)

    def stream(self, method: str, behaviour: Behaviour) -> grpc.RpcMethodHandler:
        """Makes the handler of a call with many of both from (bodies, context) -> None."""
        return grpc.stream_stream_rpc_method_handler(self._checked(method, behaviour))

    def endless(self, behaviour: Behaviour) -> Behaviour:
        """Wraps the function of a call that would go on for ever, so that it ends when the server ends."""

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
        """Ends such calls, because the server ends."""
        self._ending = True
        for task in self._endless:
            task.cancel()

    async def none_begins(self, within_s: float, most_s: float) -> None:
        """Waits until no call begins for so long, so that all that have arrived have; or for `most_s`."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + most_s
        begun = -1
        while begun != self._begun and (left_s := end_s - loop.time()) > 0:
            begun = self._begun
            await asyncio.sleep(min(within_s, left_s))

    def _checked(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def call(request: Any, context: Any) -> Any:
            self._begun += 1
            code = grpc.StatusCode.OK
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except grpc.aio.BaseError:  # the call has ended meanwhile
                code = grpc.StatusCode.UNKNOWN
                raise
            except Exception as error:
                code = code_of(error)
                # grpc.aio keeps an abort in a cycle with its traceback, which must not keep the message.
                del request
                traceback.clear_frames(error.__traceback__)
                await abort(context, error)
            finally:
                if ACCESS_LOG.isEnabledFor(logging.INFO):
                    ACCESS_LOG.info('%s - "%s" %s', context.peer(), method, code.name)

        return call
