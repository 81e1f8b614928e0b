"""A handle that sends the requests of one turn of an event loop together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from paddleinfer.config.checks import check_int
from paddleinfer.errors import ConfigError

__all__ = ["CoalescingHandle"]


class CoalescingHandle:
    """Sends what tasks of one event loop ask in the same turn as one message to one replica.

    Serve takes about a millisecond of a core for each call of a handle, which is many times what a small
    model takes. In the replica each request is one of its own again: it has its deadline, its priority and
    its error, and shares batches with those of other callers. A message is answered when the last of its
    requests is. A task that is cancelled no longer waits, but its request runs.

    Parameters
    ----------
    handle
        The handle of a deployment of ``paddleinfer.ray.deployment``.
    max_requests
        The most requests in a message; further ones make another.

    Raises
    ------
    ConfigError
        `max_requests` is out of range.
    """

    def __init__(self, handle: Any, max_requests: int = 32) -> None:
        check_int("max_requests", max_requests, 1, 1 << 16)
        self._handle = handle
        self._most = max_requests
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[tuple[asyncio.Future[Any], tuple[Any, dict[str, Any]]]] = []
        self._messages: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly

    async def ainfer(
        self,
        inputs: Any,
        *,
        timeout: float | None = None,
        deadline_unix_s: float | None = None,
        outputs: Sequence[str] | None = None,
        priority: int = 1,
    ) -> dict[str, Any]:
        """Runs the model on one request; see ``EngineReplica.__call__`` for what it takes and raises.

        Raises
        ------
        ConfigError
            It was used on another event loop before.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigError("a CoalescingHandle belongs to one event loop; make one for each")
        if not self._waiting:
            loop.call_soon(self._send)
        options = {
            "timeout": timeout,
            "deadline_unix_s": deadline_unix_s,
            "outputs": outputs,
            "priority": priority,
        }
        future = loop.create_future()
        self._waiting.append((future, (inputs, options)))
        results: dict[str, Any] = await future
        return results

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for begin in range(0, len(waiting), self._most):
            message = asyncio.ensure_future(self._ask(waiting[begin : begin + self._most]))
            self._messages.add(message)
            message.add_done_callback(self._messages.discard)

    async def _ask(self, asked: list[tuple[asyncio.Future[Any], tuple[Any, dict[str, Any]]]]) -> None:
        try:
            answers = await self._handle.infer_together.remote([request for _, request in asked])
        except Exception as error:
            answers = [error] * len(asked)
        for (future, _), answer in zip(asked, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
