"""Serves processes whose threads are greenlets (gevent's monkey-patching).

The core's threads are real ones, and a native wait would stop all greenlets of a thread. So a real thread
waits for the core, and notifies greenlets in their own hub, where they wait with gevent's own primitives.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from paddleinfer.errors import ConfigError, ThreadStartError

if TYPE_CHECKING:
    from paddleinfer import _ext
    from paddleinfer.engine.futures import InferFuture

__all__ = [
    "GreenCompletions",
    "GreenHandle",
    "Inbox",
    "are_in_use",
    "on_a_real_thread",
    "refuse_eventlet",
    "start_real_thread",
]

_T = TypeVar("_T")


def are_in_use() -> bool:
    """Tells whether gevent has replaced threads by greenlets."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def refuse_eventlet() -> None:
    """Raises ConfigError if eventlet has done the same: other threads cannot wake its hub."""
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        raise ConfigError(
            "eventlet's monkey_patch() has replaced this process's threads, and an engine cannot wait in its "
            "hub; leave threads out (monkey_patch(thread=False)), or use gevent, asyncio or plain threads"
        )


def start_real_thread(name: str, target: Callable[..., object], *arguments: Any) -> None:
    """Starts a real thread, even if greenlets have replaced threads. The process does not wait for its end.

    Raises
    ------
    ThreadStartError
        The system gave no thread.
    """
    try:
        if not are_in_use():
            threading.Thread(target=target, args=arguments, name=name, daemon=True).start()
            return
        from gevent.monkey import get_original

        get_original("_thread", "start_new_thread")(target, arguments)
    except RuntimeError as error:
        raise ThreadStartError.of(name, error) from None


def on_a_real_thread(
    function: Callable[..., _T], *arguments: Any, unwanted: Callable[[_T], object] | None = None
) -> _T:
    """Calls a function that waits natively, on a real thread, while other greenlets of this thread go on.

    A greenlet may be ended while it waits here: `unwanted` is then called with the function's result.
    """
    if not are_in_use():
        return function(*arguments)
    from gevent import get_hub
    from gevent.monkey import get_original

    handing_over = get_original("_thread", "allocate_lock")()
    given: list[_T] = []
    wanted = True

    def called() -> BaseException | None:
        try:
            value = function(*arguments)
        except BaseException as error:  # an exception raised here would be printed, too
            return error
        with handing_over:
            given.append(value)
            if wanted or unwanted is None:
                return None
        unwanted(value)
        return None

    try:
        error = get_hub().threadpool.apply(called)
    except RuntimeError as failure:  # the function's own errors come as a result, so this one is the pool's
        raise ThreadStartError.of("a greenlet's native wait", failure) from None
    except BaseException:
        with handing_over:
            wanted = False
        if given and unwanted is not None:
            unwanted(given[0])
        raise
    if error is not None:
        try:
            raise error
        finally:
            del error  # or the exception's traceback would keep itself alive
    return given[0]


class GreenHandle:
    """A request of a stream, for which greenlets wait."""

    def __init__(self, handle: _ext.Handle) -> None:
        self._handle = handle
        self.rows = handle.rows
        self.done, self.result = handle.done, handle.result
        self.give_up, self.info = handle.give_up, handle.info

    def wait(self, timeout: float | None) -> bool:
        """Waits as the handle does, while other greenlets go on."""
        return self._handle.done() or on_a_real_thread(self._handle.wait, timeout)


class Inbox:
    """Receives the ended futures of one hub's greenlets."""

    def __init__(self) -> None:
        from gevent import get_hub

        self._hub = get_hub()
        self._watcher = self._hub.loop.async_()
        self._ended: deque[InferFuture | None] = deque()
        self._expected = (
            0  # only this hub's thread uses it; while it is above 0, the watcher keeps the hub running
        )
        self._settling: set[Any] = set()

    @classmethod
    def of_this_hub(cls) -> Inbox:
        """Returns the inbox of this thread's hub."""
        from gevent import get_hub

        hub = get_hub()
        inbox: Inbox | None = getattr(hub, "_paddleinfer_inbox", None)
        if inbox is None:
            inbox = hub._paddleinfer_inbox = cls()
        return inbox

    def expect(self) -> None:
        """Announces one more future."""
        self._expected += 1
        if self._expected == 1:
            self._watcher.start(self._take)

    def expect_less(self, count: int = 1) -> None:
        """Notes that so many have come, or will not come. It runs on this hub's thread."""
        self._expected -= count
        if self._expected == 0:
            self._watcher.stop()

    def put(self, futures: Iterable[InferFuture | None]) -> None:
        """Delivers ended futures, from any thread; None for an expected one that will not come."""
        self._ended.extend(futures)
        self._watcher.send()

    def join(self, timeout: float | None) -> None:
        """Waits until what has come is settled, except for what this greenlet itself is settling."""
        import gevent

        self._take()
        gevent.joinall([one for one in self._settling if one is not gevent.getcurrent()], timeout)

    def _take(self) -> None:
        import gevent

        come = [self._ended.popleft() for _ in range(len(self._ended))]
        if not come:
            return
        self.expect_less(len(come))
        futures = [future for future in come if future is not None]
        # Callbacks may wait, and the hub itself must not.
        greenlet = gevent.spawn(_settle, futures)
        self._settling.add(greenlet)
        greenlet.link(self._settling.discard)


def _settle(futures: list[InferFuture]) -> None:
    for future in futures:
        future.settle_or_log()


class GreenCompletions:
    """A real thread that waits for ends of submitted requests, and passes them on to their hubs."""

    name = "paddleinfer-completions"

    def __init__(self, core: _ext.Core) -> None:
        from gevent.monkey import get_original

        self._core = core
        self._alive = get_original("_thread", "allocate_lock")()
        self._alive.acquire()
        start_real_thread(self.name, self._run)

    def is_alive(self) -> bool:
        """Tells whether more may come."""
        return bool(self._alive.locked())

    def join(self, timeout: float | None = None) -> None:
        """Waits until it has ended and this hub's greenlets have been notified."""
        wait_s = -1 if timeout is None else timeout
        if on_a_real_thread(functools.partial(self._alive.acquire, True, wait_s)):
            self._alive.release()
        Inbox.of_this_hub().join(timeout)

    def _run(self) -> None:
        try:
            while _pass_on(self._core):
                pass
        finally:
            self._alive.release()


def _pass_on(core: _ext.Core) -> bool:
    # This is a separate function, so that its variables do not keep what it passed on until the next end.
    futures = core.wait_completions()
    of_inbox: dict[Inbox | None, list[InferFuture]] = {}
    for future in futures or ():
        of_inbox.setdefault(future.inbox, []).append(future)
    for inbox, ended in of_inbox.items():
        if inbox is None:
            _settle(ended)
        else:
            inbox.put(ended)
    return futures is not None
