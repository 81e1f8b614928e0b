"""Limits how long a message may take to arrive, and how much may wait for clients that do not read."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic
from typing import Any, Final

import grpc

from ..protocol.errors import RequestError, bad_request

__all__ = ["Arrivals", "Unsent", "cut_calls"]

_log = logging.getLogger("paddleinfer.grpc")

# The time between two looks at messages under way.
_LOOK_INTERVAL_S: Final = 0.25
# After this time a message counts as slow, and an answer as not read.
_SLOW_AFTER_S: Final = 1.0
# Many clients may have slow lines.
_LEAST_SLOW: Final = 16

Task = asyncio.Task[Any]


def cut_calls(tasks: Iterable[Task]) -> None:
    """Ends the calls of grpc.aio that have these tasks, and frees what they hold, whatever their clients do.

    Each call has a second task, which waits for its client to close it; grpc.aio ends a call when both are
    gone. It keeps the latest call until another one comes, and the server's very first one.
    """
    ended = set(tasks)
    for task in ended:
        task.cancel()
    for task in asyncio.all_tasks() - ended:
        if any(known in ended for known in _known_to(task)):
            task.cancel()


def _known_to(task: Task) -> list[Any]:
    """Finds the tasks among the variables of a coroutine of grpc.aio."""
    coroutine = task.get_coro()
    if not type(coroutine).__module__.startswith("_cython"):
        return []
    return [
        found
        for scope in gc.get_referents(coroutine)
        if type(scope).__module__.startswith("grpc.")
        for found in gc.get_referents(scope)
        if isinstance(found, asyncio.Task)
    ]


class _Watched:
    """Looks at the tasks of calls at intervals, as long as there are any."""

    def __init__(self, look: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._look = look
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_INTERVAL_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._look(self._clock())


class Arrivals:
    """Reads the messages of calls, and limits the time that each may take.

    grpc does not tell how much of a message has arrived, so every slow one may be as large as any. Therefore
    at most 16 of them, or as many as ``max_bytes`` has room for, are kept, and the slowest yields to another.
    """

    def __init__(
        self, max_bytes: int, max_message_bytes: int, timeout_s: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._max_slow = max(_LEAST_SLOW, max_bytes // max_message_bytes)
        self._timeout_s = timeout_s
        self._clock = clock
        self._since: dict[Task, float] = {}  # the oldest first
        self._refused: dict[Task, RequestError] = {}
        self._watched = _Watched(self._look, clock)

    async def read(self, context: Any) -> bytes:
        """Reads the only message of a call.

        Raises
        ------
        RequestError
            There is none, or it took too long.
        """
        task = asyncio.current_task()
        assert task is not None
        self._since[task] = self._clock()
        self._watched.begin()
        try:
            body = await context.read()
        except asyncio.CancelledError:
            refused = self._refused.pop(task, None)
            if refused is None:
                raise
            raise refused from None
        finally:
            del self._since[task]
        if body is grpc.aio.EOF:
            raise bad_request("the call has no message")
        message: bytes = body
        return message

    def _look(self, now: float) -> None:
        slow = [task for task, since in self._since.items() if now - since > _SLOW_AFTER_S]
        too_many = len(slow) - self._max_slow
        for place, task in enumerate(slow):
            if now - self._since[task] > self._timeout_s:
                self._refuse(
                    task,
                    RequestError(
                        HTTPStatus.GATEWAY_TIMEOUT,
                        f"the message did not come within {self._timeout_s:g} s (--request-timeout)",
                    ),
                )
            elif place < too_many:
                self._refuse(
                    task,
                    RequestError(
                        HTTPStatus.TOO_MANY_REQUESTS,
                        f"{len(slow)} messages are arriving slowly, this one the longest; "
                        f"{self._max_slow} are the most that --max-buffered-bytes allows",
                        {"Retry-After": "1"},
                    ),
                )
        if self._since:
            self._watched.begin()

    def _refuse(self, task: Task, refusal: RequestError) -> None:
        if task not in self._refused:
            self._refused[task] = refusal
            task.cancel()


@dataclass(slots=True)
class _Waiting:
    size_bytes: int = 0
    since: float = math.inf
    """When its client was asked to read; infinity if it has not been asked yet."""


@dataclass(frozen=True)
class Patience:
    """How long reading an answer may take: a fixed time, and more by its size, up to a limit."""

    timeout_s: float
    min_bytes_per_s: int
    max_timeout_s: float

    def seconds(self, size_bytes: int) -> float:
        """Returns the time for an answer of this size."""
        by_size_s = self.timeout_s + size_bytes / self.min_bytes_per_s
        return max(self.timeout_s, min(by_size_s, self.max_timeout_s))


class Unsent:
    """Answers that have not left: how many bytes wait, for how long, and which of them are cut to make room.

    Attributes
    ----------
    total_bytes
        The bytes of all waiting answers.
    """

    def __init__(self, max_bytes: int, patience: Patience, clock: Callable[[], float] = monotonic) -> None:
        self._max_bytes = max_bytes
        self._patience = patience
        self._clock = clock
        self._waiting: dict[Task, _Waiting] = {}
        self._watched = _Watched(self._look, clock)
        self.total_bytes = 0

    def add(self, task: Task, size_bytes: int) -> None:
        """Adds an answer of this task's call, until sent() or discard().

        Raises
        ------
        RequestError
            429: clients have too much to read already. Answers that wait for unusually long are cut first.
        """
        if self.total_bytes + size_bytes > self._max_bytes and self.total_bytes:
            self._make_room(size_bytes)
        self.add_little(task, size_bytes)

    def add_little(self, task: Task, size_bytes: int) -> None:
        """Adds an error, for which there is always room."""
        self._waiting.setdefault(task, _Waiting()).size_bytes += size_bytes
        self.total_bytes += size_bytes

    def write(self, task: Task) -> None:
        """Notes that the call waits for its client from now on."""
        self._waiting.setdefault(task, _Waiting()).since = self._clock()
        self._watched.begin()

    def sent(self, task: Task, size_bytes: int) -> None:
        """Notes that one of a call's answers has left."""
        waiting = self._waiting.get(task)
        if waiting is not None:
            waiting.since = math.inf
            waiting.size_bytes -= size_bytes
            self.total_bytes -= size_bytes

    def discard(self, task: Task) -> None:
        """Notes that the call is over."""
        waiting = self._waiting.pop(task, None)
        if waiting is not None:
            self.total_bytes -= waiting.size_bytes

    def of(self, task: Task) -> int:
        """Returns the bytes of one call that wait."""
        waiting = self._waiting.get(task)
        return 0 if waiting is None else waiting.size_bytes

    def _make_room(self, size_bytes: int) -> None:
        now = self._clock()
        unread = sorted(
            (waiting.since, id(task), task)
            for task, waiting in self._waiting.items()
            if now - waiting.since > _SLOW_AFTER_S
        )
        cut: list[Task] = []
        for _, _, task in unread:
            if self.total_bytes + size_bytes <= self._max_bytes:
                break
            self.discard(task)
            cut.append(task)
        if cut:
            _log.warning("%d calls were cut because their clients do not read their answers", len(cut))
            cut_calls(cut)
        if self.total_bytes and self.total_bytes + size_bytes > self._max_bytes:
            raise RequestError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"answers of {self.total_bytes} bytes wait for clients that have not read them, "
                f"and --max-buffered-bytes allows {self._max_bytes}",
                {"Retry-After": "1"},
            )

    def _look(self, now: float) -> None:
        late = [
            task
            for task, waiting in self._waiting.items()
            if now - waiting.since > self._patience.seconds(waiting.size_bytes)
        ]
        for task in late:
            self.discard(task)
        if late:
            _log.warning("%d calls were cut because their clients did not read an answer in time", len(late))
            cut_calls(late)
        if self._waiting:
            self._watched.begin()
