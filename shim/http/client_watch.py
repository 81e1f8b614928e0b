"""Notices when the client of a request has left, so that its work need not be done."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from ..protocol.body import ClientGone, Receive

__all__ = ["ClientWatch"]

# A request that waits longer than this is watched: if its client leaves, it need not run.
_WATCHED_AFTER_S: Final = 0.005


class ClientWatch:
    """Watches the clients of requests that wait long; most are answered sooner, and cost no task."""

    def __init__(self) -> None:
        self._new: dict[_Watched, None] = {}  # the oldest first
        self._timer_is_set = False

    def over(self, receive: Receive) -> _Watched:
        """Returns a context for the current task, which is cancelled with ClientGone if the client leaves."""
        return _Watched(self, receive)

    def add(self, watched: _Watched) -> None:
        """Watches from now on."""
        self._new[watched] = None
        if not self._timer_is_set:
            self._set_timer()

    def remove(self, watched: _Watched) -> None:
        """No longer."""
        self._new.pop(watched, None)

    def _set_timer(self) -> None:
        self._timer_is_set = True
        asyncio.get_running_loop().call_later(_WATCHED_AFTER_S, self._look)

    def _look(self) -> None:
        self._timer_is_set = False
        limit = monotonic() - _WATCHED_AFTER_S
        while self._new:
            oldest = next(iter(self._new))
            if oldest.since > limit:
                self._set_timer()
                return
            del self._new[oldest]
            oldest.begin()


class _Watched:
    """One request that may be watched."""

    __slots__ = ("_has_left", "_receive", "_task", "_watch", "_watcher", "since")

    def __init__(self, watch: ClientWatch, receive: Receive) -> None:
        self._watch = watch
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._receive = receive
        self._has_left = False
        self.since = monotonic()

    def __enter__(self) -> None:
        self._watch.add(self)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._watch.remove(self)
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None  # the exception's traceback holds this frame
        if self._has_left and isinstance(error, asyncio.CancelledError):
            raise ClientGone from None

    def begin(self) -> None:
        """Begins to watch the client: the request has waited long."""
        self._watcher = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._has_left = True
        assert self._task is not None
        self._task.cancel()
