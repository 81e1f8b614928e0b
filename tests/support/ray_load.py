"""Callers of a handle of Ray Serve, which send one request after the other, and some again."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable
from typing import Any

from engine_helpers import PATIENCE_S


class RayLoad:
    """Threads that call until they are stopped.

    Parameters
    ----------
    handle
        What they call.
    request
        What they send.
    right
        Whether an answer is right.
    retried
        Errors after which the same request is sent again.
    """

    def __init__(
        self,
        handle: Any,
        request: Any,
        right: Callable[[Any], bool],
        callers: int = 8,
        retried: tuple[type[Exception], ...] = (),
    ) -> None:
        self._handle, self._request, self._right, self._retried = handle, request, right, retried
        self._stops = threading.Event()
        self._lock = threading.Lock()
        self.answered = 0
        self.wrong = 0
        self.asked = 0
        self.errors: collections.Counter[str] = collections.Counter()
        """By the class of the error, retried ones too."""
        self.lost = 0
        """Requests that got an error and were not asked again."""
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> RayLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stops.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        assert not any(thread.is_alive() for thread in self._threads)

    def _call(self) -> None:
        while not self._stops.is_set():
            with self._lock:
                self.asked += 1
            self._ask()

    def _ask(self) -> None:
        while True:
            try:
                answer = self._handle.remote(self._request).result(timeout_s=PATIENCE_S)
            except Exception as error:
                with self._lock:
                    self.errors[type(error).__name__] += 1
                    if not isinstance(error, self._retried):
                        self.lost += 1
                        return
            else:
                with self._lock:
                    self.answered += 1
                    self.wrong += not self._right(answer)
                return
