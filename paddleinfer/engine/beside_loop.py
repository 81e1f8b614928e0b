"""What takes an event loop too long before a request is queued: conversion and padding of many numbers."""

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
    """Whether a caller's inputs hold so many numbers that a copy of them takes milliseconds."""
    if isinstance(feeds, np.ndarray):
        return feeds.size > _ext.MANY_NUMBERS
    if isinstance(feeds, Mapping):
        feeds = list(feeds.values())
    if not isinstance(feeds, Sequence):
        return False
    return sum(value.size for value in feeds if isinstance(value, np.ndarray)) > _ext.MANY_NUMBERS


class BesideLoop:
    """One thread, from its first use until close(), which does one piece of work after the other.

    NumPy copies without the interpreter's lock, and the loop goes on. With more threads the memory of each
    would be taken at once.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False
        self._lock = threading.Lock()

    async def run(self, call: Callable[[Any], Given], feeds: object) -> Given:
        """What the call gives of a caller's inputs.

        Raises
        ------
        EngineClosed
            After close().
        ThreadStartError
            There is no thread for it.
        """
        with self._lock:
            if self._closed:
                raise EngineClosed(f"{self._label} is closed")
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "paddleinfer-convert")
            try:
                work = self._executor.submit(call, feeds)
            except RuntimeError as error:
                self._executor = None  # which has the work, and nobody to do it
                raise ThreadStartError.of(f"the inputs of {self._label}", error) from None
        return await asyncio.wrap_future(work)

    def close(self) -> None:
        """What was begun is done, and nothing new."""
        with self._lock:
            self._closed = True
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
