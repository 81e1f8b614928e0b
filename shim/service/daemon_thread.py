"""Runs calls that nothing can end on threads that the end of the process does not wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["DaemonCalls"]

Given = TypeVar("Given")


class DaemonCalls:
    """Runs each call on a thread of its own; asyncio's threads would keep the process until they end."""

    def __init__(self) -> None:
        self._threads: set[threading.Thread] = set()

    @property
    def under_way(self) -> bool:
        """Whether one of the threads still runs."""
        return any(thread.is_alive() for thread in list(self._threads))

    def start(
        self, call: Callable[[], Given], forgo: Callable[[Given], object] = lambda _: None
    ) -> asyncio.Future[Given]:
        """Returns a future of the call's result; `forgo` gets the result if the future is over before."""
        loop = asyncio.get_running_loop()
        one = _Call(call, forgo, loop.create_future())

        def run() -> None:
            try:
                one.run()
                try:
                    loop.call_soon_threadsafe(one.settle)
                except RuntimeError:  # the loop is closed
                    one.settle()
            finally:
                self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name="paddleinfer-load", daemon=True)
        self._threads.add(thread)
        thread.start()
        return one.future


class _Call(Generic[Given]):
    def __init__(
        self, call: Callable[[], Given], forgo: Callable[[Given], object], future: asyncio.Future[Given]
    ) -> None:
        self._call = call
        self._forgo = forgo
        self.future = future
        self._results: list[Given] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """Runs the call, on the thread."""
        try:
            self._results.append(self._call())
        except BaseException as error:
            self._error = error

    def settle(self) -> None:
        """Settles the future, on the loop, or on the thread if the loop is closed."""
        if self.future.done():
            for result in self._results:
                threading.Thread(target=self._forgo, args=(result,), daemon=True).start()
        elif self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._results[0])
