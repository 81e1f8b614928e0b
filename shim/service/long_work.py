"""Runs work that would block the event loop for too long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from .connection_limits import network_of

__all__ = ["LongWork"]

Taken = ParamSpec("Taken")
Given = TypeVar("Given")


class LongWork:
    """Runs calls on one other thread, one after the other; clients whose calls wait take turns.

    More threads would finish no sooner, because all need the GIL: the loop would wait for each of
    them in turn, and the memory of all of them would be needed at once.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "paddleinfer-long")
        self._is_busy = False
        self._waiting: dict[str | None, deque[asyncio.Future[None]]] = {}
        """The calls by client; the first client's turn is next."""

    async def run(
        self, address: str | None, call: Callable[Taken, Given], *args: Taken.args, **named: Taken.kwargs
    ) -> Given:
        """Returns what the call returns. `address` is that of the client it is made for, if there is one."""
        if self._is_busy:
            await self._turn(None if address is None else network_of(address))
        self._is_busy = True
        try:
            return await asyncio.wrap_future(self._executor.submit(call, *args, **named))
        finally:
            self._next()

    async def _turn(self, client: str | None) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._next()
            raise

    def _next(self) -> None:
        self._is_busy = False
        while self._waiting:
            client = next(iter(self._waiting))
            turns = self._waiting.pop(client)
            turn = turns.popleft()
            while turns and turn.done():  # the caller has given up
                turn = turns.popleft()
            if turns:
                self._waiting[client] = turns  # to the end of the line
            if not turn.done():
                self._is_busy = True
                turn.set_result(None)
                return
