"""Defines the future of a submitted request: a ``concurrent.futures.Future`` over the core's own wait."""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from paddleinfer.engine.padding import Padded, explained
from paddleinfer.errors import Cancelled

if TYPE_CHECKING:
    from paddleinfer import _ext
    from paddleinfer.engine.greenlets import Inbox
    from paddleinfer.explanation import InferInfo

__all__ = ["InferFuture", "RequestHandle", "deliver"]

_log = logging.getLogger("paddleinfer")

Results = dict[str, npt.NDArray[Any]]

# A waiting greenlet looks this often whether its future's hub has died with its thread.
_LOOK_S = 0.5


# A completion thread that found no memory for what has ended asks again after this time.
_MEMORY_PAUSE_S = 0.01


class RequestHandle(Protocol):
    """A request as its future sees it: one of the core's requests, or several as one."""

    @property
    def cancelled(self) -> bool:
        """Tells whether it was cancelled before it ran."""

    def done(self) -> bool:
        """Tells whether it has ended."""

    def started(self) -> bool:
        """Tells whether it runs or has run."""

    def wait(self, timeout: float | None) -> bool:
        """Waits for its end, and tells whether that has come."""

    def cancel(self) -> bool:
        """Ends it unless it has started; tells whether it did."""

    def give_up(self) -> None:
        """Ends it, even if it runs."""

    def info(self) -> Any:
        """Returns the core's record of why it went as it did."""

    def result(self) -> Results:
        """Returns its outputs, or raises its error."""


class InferFuture(concurrent.futures.Future[Results]):
    """The result of ``Engine.submit``.

    ``result(timeout)`` only limits the wait; the request's own deadline is ``submit(timeout=)``.
    ``cancel()`` keeps a queued request from running. Callbacks run on the engine's completion thread, or at
    once on the adding thread if the future is already done.
    """

    def __init__(self, padded: Padded | None = None, inbox: Inbox | None = None) -> None:
        super().__init__()
        self._padded = padded
        self.inbox = inbox
        """The inbox in which a greenlet's future is settled."""
        self._over = None if inbox is None else threading.Event()
        self._handle: RequestHandle | None = None
        self._taken = threading.Lock()
        self._results: Results | None = None
        self._error: BaseException | None = None

    def attach(self, handle: RequestHandle) -> None:
        """Sets the request's handle; called once, before the request is queued. A handle may join several."""
        self._handle = handle

    @property
    def handle(self) -> RequestHandle:
        """The handle of the request."""
        return self._own()

    def cancel(self) -> bool:
        """Cancels a queued request; True means that it will not run."""
        return self._own().cancel() or self.cancelled()

    def cancelled(self) -> bool:
        """Tells whether the request was cancelled before it ran."""
        return self._own().cancelled

    def running(self) -> bool:
        """Tells whether the request has started and not ended."""
        handle = self._own()
        return handle.started() and not handle.done()

    def done(self) -> bool:
        """Tells whether the request has ended, in whatever way."""
        return self._own().done()

    def result(self, timeout: float | None = None) -> Results:
        """Waits for the outputs, and returns them by name.

        Parameters
        ----------
        timeout
            Seconds to wait; None waits for the request's end.

        Raises
        ------
        concurrent.futures.TimeoutError
            The result is not there yet.
        Cancelled, DeadlineExceeded, ModelError, EngineClosed
            The request ended without a result.
        """
        error = self.exception(timeout)
        if error is not None:
            try:
                raise error
            finally:
                del error  # otherwise the exception's traceback would keep itself alive
        assert self._results is not None
        return self._results

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Returns the error of the request, None for a result. It waits and raises as ``result`` does."""
        if not self.wait(timeout):
            raise concurrent.futures.TimeoutError(f"no result after {timeout:g} s of waiting")
        if self.cancelled():
            raise Cancelled("the request was cancelled")
        self._take()
        return self._error

    def wait(self, timeout: float | None = None) -> bool:
        """Waits up to `timeout` seconds for the request's end, and tells whether it has come."""
        handle, over = self._own(), self._over
        if over is None:
            return handle.wait(timeout)
        end = None if timeout is None else time.monotonic() + timeout
        while not handle.done():  # other greenlets go on meanwhile, and one of them settles the future
            left = _LOOK_S if end is None else min(_LOOK_S, end - time.monotonic())
            if left <= 0 or over.wait(left):
                break
        return handle.done()

    def give_up(self) -> None:
        """Ends the request, even if it runs: nobody wants its result any more."""
        self._own().give_up()

    @property
    def info(self) -> InferInfo | None:
        """Returns why the request went as it did; None before its end, or if it never ran."""
        facts = self._own().info()
        return None if facts is None else explained(facts, self._padded)

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Adds a callback as the standard library does; what `fn` raises is logged, SystemExit included."""
        super().add_done_callback(functools.partial(_called, fn))

    def settle(self) -> None:
        """Wakes wait() and as_completed(), and runs the callbacks. The completion thread calls it."""
        if self._over is not None:
            self._over.set()
        if self.cancelled():
            super().cancel()
            self.set_running_or_notify_cancel()
            return
        self._take()
        if self._error is not None:
            self.set_exception(self._error)
        else:
            assert self._results is not None
            self.set_result(self._results)

    def settle_or_log(self) -> None:
        """Settles the future, and logs it if that fails."""
        try:
            self.settle()
        except BaseException:  # somebody else has set the future's result
            _log.exception("%r could not be settled", self)

    def _own(self) -> RequestHandle:
        if self._handle is None:
            raise RuntimeError("an InferFuture is made by Engine.submit only")
        return self._handle

    def _take(self) -> None:
        """Takes the outcome out of the core, once: a waiter or the completion thread comes first."""
        with self._taken:
            if self._results is not None or self._error is not None:
                return
            try:
                results = self._own().result()
                self._results = results if self._padded is None else self._padded.crop(results)
            except Exception as error:
                self._error = error


def deliver(core: _ext.Core) -> None:
    """Settles futures, on the completion thread, until the core is closed and all are settled."""
    while _deliver_some(core):
        pass


def _deliver_some(core: _ext.Core) -> bool:
    # This is a separate function, so that its variables do not keep what it delivered until the next end.
    try:
        futures = core.wait_completions()
    except MemoryError:  # nothing that ended is lost
        time.sleep(_MEMORY_PAUSE_S)
        return True
    for future in futures or ():
        future.settle_or_log()
    return futures is not None


def _called(fn: Callable[[InferFuture], object], future: InferFuture) -> None:
    try:
        fn(future)
    except Exception:
        raise  # the standard library logs it
    except BaseException:
        if threading.current_thread() is threading.main_thread():
            raise
        _log.exception("a callback of %r raised", future)
