"""Tells ``engine.observer`` of each request as it begins and ends."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from paddleinfer.engine.calls import EngineCalls
from paddleinfer.engine.futures import InferFuture
from paddleinfer.engine.padding import info_of
from paddleinfer.engine.streams import UnderWay
from paddleinfer.engine.submission import Answer, Inputs, Results, StreamHandle
from paddleinfer.errors import Cancelled
from paddleinfer.explanation import InferInfo

__all__ = ["ObservedCalls", "RequestObserver"]


class RequestObserver(Protocol):
    """Is told of every request, by whichever call it is made, on the thread where that happens."""

    def begin(self, generation: int) -> Any:
        """A request is made. The methods below get what this returns; after None they are not called."""

    def end(self, request: Any, info: InferInfo | None, at_ns: int | None) -> None:
        """The request has a result, now or at an instant of ``time.monotonic_ns``."""

    def fail(self, request: Any, error: BaseException, info: InferInfo | None, at_ns: int | None) -> None:
        """The request ended with this error; with Cancelled if nobody wants its result any more."""


class ObservedCalls:
    """The calls of an engine that has an observer.

    Parameters
    ----------
    calls
        The same calls without the observer.
    """

    def __init__(self, calls: EngineCalls, generation: Callable[[], int], observer: RequestObserver) -> None:
        self._calls = calls
        self._generation = generation
        self._observer = observer

    def infer(
        self,
        inputs: Inputs,
        timeout: float | None,
        outputs: Sequence[str] | None,
        priority: int,
        return_info: bool,
    ) -> Answer:
        """See ``Engine.infer``."""
        how: dict[str, Any] = {"timeout": timeout, "outputs": outputs, "priority": priority}
        request = self._observer.begin(self._generation())
        if request is None:
            return self._calls.infer(inputs, return_info=return_info, **how)
        try:
            results, info = self._calls.infer(inputs, return_info=True, **how)
        except BaseException as error:
            self._observer.fail(request, error, None, None)
            raise
        self._observer.end(request, info, None)
        return (results, info) if return_info else results

    async def ainfer(
        self,
        inputs: Inputs,
        timeout: float | None,
        outputs: Sequence[str] | None,
        priority: int,
        return_info: bool,
    ) -> Answer:
        """See ``Engine.ainfer``."""
        how: dict[str, Any] = {"timeout": timeout, "outputs": outputs, "priority": priority}
        request = self._observer.begin(self._generation())
        if request is None:
            return await self._calls.ainfer(inputs, return_info=return_info, **how)
        try:
            results, info = await self._calls.ainfer(inputs, return_info=True, **how)
        except BaseException as error:
            self._observer.fail(request, error, None, None)
            raise
        self._observer.end(request, info, None)
        return (results, info) if return_info else results

    def submit(
        self, inputs: Inputs, timeout: float | None, outputs: Sequence[str] | None, priority: int
    ) -> InferFuture:
        """See ``Engine.submit``."""
        request = self._observer.begin(self._generation())
        try:
            future = self._calls.submit(inputs, timeout=timeout, outputs=outputs, priority=priority)
        except BaseException as error:
            if request is not None:
                self._observer.fail(request, error, None, None)
            raise
        if request is not None:
            future.add_done_callback(functools.partial(self._done, request))
        return future

    def _done(self, request: Any, future: InferFuture) -> None:
        error = Cancelled("the request was cancelled") if future.cancelled() else future.exception()
        if error is None:
            self._observer.end(request, future.info, None)
        else:
            self._observer.fail(request, error, future.info, None)

    def starter(
        self, seconds: float | None, outputs: Sequence[str] | None, priority: int
    ) -> Callable[[Inputs], UnderWay]:
        """Returns the function that queues a stream's items. Each begins in the context of this call."""
        context = contextvars.copy_context()

        def start(item: Inputs) -> UnderWay:
            request = context.run(self._observer.begin, self._generation())
            try:
                handle = self._calls.start(seconds, outputs, priority, item)
            except BaseException as error:
                if request is not None:
                    self._observer.fail(request, error, None, None)
                raise
            return handle if request is None else ObservedHandle(handle, self._observer, request)

        return start


class ObservedHandle:
    """A request of a stream, which ends when it ends, not when the stream's reader comes to it."""

    def __init__(self, handle: StreamHandle, observer: RequestObserver, request: Any) -> None:
        self._handle = handle
        self._observer = observer
        self._request = request

    @property
    def rows(self) -> int:
        """Does what the handle does."""
        return self._handle.rows

    def done(self) -> bool:
        """Does what the handle does."""
        return self._handle.done()

    def wait(self, timeout: float | None) -> bool:
        """Does what the handle does."""
        return self._handle.wait(timeout)

    def result(self) -> Results:
        """Does what the handle does."""
        info = info_of(self._handle)
        ended_ns = None if info is None else info.stages[-1][2]
        try:
            results = self._handle.result()
        except BaseException as error:
            self._observer.fail(self._request, error, info, ended_ns)
            raise
        self._observer.end(self._request, info, ended_ns)
        return results

    def give_up(self) -> None:
        """Does what the handle does."""
        self._handle.give_up()
        self._observer.fail(self._request, Cancelled("its reader has left the stream"), None, None)
