"""Converts and pads large inputs on a thread beside the event loop, which they would hold up for too long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from paddleinfer import _ext
from paddleinfer.errors import EngineClosed, ThreadStartError

__all__ = ["BesideLoop", "are_many"]

Given = TypeVar("Given")


def are_many(feeds: object) -> bool:
    """Tells whether a caller's inputs hold so many numbers that copying them takes milliseconds."""
    if isinstance(feeds, np.ndarray):
        return feeds.size > _ext.MANY_NUMBERS
    if isinstance(feeds, Mapping):
        feeds = list(feeds.values())
    if not isinstance(feeds, Sequence):
        return False
    return sum(value.size for value in feeds if isinstance(value, np.ndarray)) > _ext.MANY_NUMBERS


class BesideLoop:
    """A thread that does one piece of work after the other, from the first use until close().

    NumPy copies without the GIL, so the loop goes on. Several threads would need their memory all at once.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False
        self._lock = threading.Lock()

    async def run(self, call: Callable[[Any], Given], feeds: object) -> Given:
        """Runs the call on a caller's inputs, on the thread, and returns its result.

        Raises
        ------
        EngineClosed
            After close().
        ThreadStartError
            The thread could not be started.
        """
        with self._lock:
            if self._closed:
                raise EngineClosed(f"{self._label} is closed")
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "paddleinfer-convert")
            try:
                work = self._executor.submit(call, feeds)
            except RuntimeError as error:
                self._executor = None  # it holds the work, and nobody would do it
                raise ThreadStartError.of(f"the inputs of {self._label}", error) from None
        return await asyncio.wrap_future(work)

    def close(self) -> None:
        """Ends the thread once the work that has begun is done; nothing new is taken."""
        with self._lock:
            self._closed = True
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
