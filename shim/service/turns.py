"""Spreads work over turns of the loop that is short for one request, but long for many at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Final, ParamSpec, TypeVar

__all__ = ["Turns"]

Taken = ParamSpec("Taken")
Given = TypeVar("Given")

# The time for such work in one step of the loop.
_STEP_NS: Final = 10_000_000
_SMALL_BYTES: Final = 4 << 10


class Turns:
    """Reads bodies and writes results on the loop's own thread, a limited time in each step of the loop.

    Everything that one look at the sockets brings, or one batch, comes in one step of the loop. A thousand
    requests of 6 ms each would keep everybody else waiting for 6 s. So work that is too much for a step waits
    for the next ones: small pieces first, and one large piece in each step.
    """

    def __init__(self, clock: Callable[[], int] = monotonic_ns) -> None:
        self._clock = clock
        self._spent_ns = 0
        self._small: deque[Callable[[], None]] = deque()
        self._large: deque[Callable[[], None]] = deque()
        self._is_set = False

    def call(self, size_bytes: int, work: Callable[[], None]) -> None:
        """Runs a function that never raises, now or in one of the next steps; it works on so many bytes."""
        waiting = self._small if size_bytes <= _SMALL_BYTES else self._large
        if waiting or self._spent_ns >= _STEP_NS:
            waiting.append(work)
            self._set()
        else:
            self._do(work)

    async def run(
        self, size_bytes: int, call: Callable[Taken, Given], *args: Taken.args, **named: Taken.kwargs
    ) -> Given:
        """Returns the result of a call that works on so many bytes."""
        waiting = self._small if size_bytes <= _SMALL_BYTES else self._large
        if not (waiting or self._spent_ns >= _STEP_NS):
            began_ns = self._clock()
            try:
                return call(*args, **named)
            finally:
                self._spent_ns += self._clock() - began_ns
        future: asyncio.Future[Given] = asyncio.get_running_loop().create_future()

        def work() -> None:
            if future.done():  # nobody waits for it any more
                return
            try:
                future.set_result(call(*args, **named))
            except Exception as error:
                future.set_exception(error)

        waiting.append(work)
        self._set()
        return await future

    def _do(self, work: Callable[[], None]) -> None:
        began_ns = self._clock()
        work()
        self._spent_ns += self._clock() - began_ns

    def _set(self) -> None:
        if not self._is_set:
            self._is_set = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """Goes on in the next step."""
        self._is_set = False
        self._spent_ns = 0
        while self._small and self._spent_ns < _STEP_NS:
            self._do(self._small.popleft())
        if self._large:
            self._do(self._large.popleft())
        while self._large and self._spent_ns < _STEP_NS:
            self._do(self._large.popleft())
        if self._small or self._large:
            self._set()
