"""Drives the scheduler's instances on a virtual clock, without threads and without waiting for real time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Protocol

from paddleinfer import _ext

__all__ = ["Happening", "ServesRequests", "VirtualClock"]

NEVER = 1 << 62
_Event = tuple[int, int, int, Callable[[], None], Callable[[], bool] | None]


class Happening:
    """The order of events at one instant; the scheduler decides once all of them have happened."""

    RUN_ENDS, DEADLINE, ARRIVAL = range(3)


class ServesRequests(Protocol):
    """The part of the scheduler that the clock uses."""

    def next(self, now: int) -> _ext.Batch:
        """Tells an idle instance what to run, or when to ask again."""


class VirtualClock:
    """The event loop of a virtual clock. Times are nanoseconds since it began.

    Parameters
    ----------
    scheduler
        It is asked whenever something has happened and an instance is idle.
    instances
        The number of instances.
    start
        It is called with a batch and its instance; ``free`` reports the batch's end.
    drop
        It is called with a request that the scheduler gives up, and "expired" or "shed".
    """

    def __init__(
        self,
        scheduler: ServesRequests,
        instances: int,
        start: Callable[[_ext.Batch, int], None],
        drop: Callable[[int, str], None],
    ) -> None:
        self.now = 0
        self._scheduler = scheduler
        self._start = start
        self._drop = drop
        self._events: list[_Event] = []
        self._order = itertools.count()
        self._wake_at: int | None = None
        self._idle = list(range(instances))[::-1]  # the last one is taken first

    def at(
        self, time: int, kind: int, action: Callable[[], None], over: Callable[[], bool] | None = None
    ) -> None:
        """Calls `action` at that time. If `over` is true by then, the event is skipped and takes no time."""
        heapq.heappush(self._events, (time, kind, next(self._order), action, over))

    def free(self, instance: int) -> None:
        """Marks an instance idle: it has ended its batch."""
        self._idle.append(instance)

    def run(self, until: int | None = None, stop: Callable[[], bool] | None = None) -> None:
        """Runs until no event is left, time `until` is reached, or `stop` returns true after a decision."""
        self.decide()
        while stop is None or not stop():
            event, wake_at = self._next_event(), self._wake_at
            now = min(NEVER if event is None else event, NEVER if wake_at is None else wake_at)
            if now == NEVER or (until is not None and now > until):
                return
            self.now = now
            events = self._events
            while events and events[0][0] == now:
                _, _, _, action, over = heapq.heappop(events)
                if over is None or not over():
                    action()
            self.decide()

    def decide(self) -> None:
        """Gives the idle instances their batches, and notes when to look again."""
        self._wake_at = None
        while self._idle:
            batch = self._scheduler.next(self.now)
            for number, how in batch.late:
                self._drop(number, how)
            if batch.number is None:
                if batch.wake_at is not None:
                    self._wake_at = max(int(batch.wake_at), self.now + 1)
                return
            self._start(batch, self._idle.pop())

    def _next_event(self) -> int | None:
        events = self._events
        while events:
            time, _, _, _, over = events[0]
            if over is None or not over():
                return time
            heapq.heappop(events)
        return None
