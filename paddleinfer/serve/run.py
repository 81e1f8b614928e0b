"""One request on its way through a service: its deadline, its turn, its stages."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from paddleinfer.errors import DeadlineExceeded
from paddleinfer.serve.observing import OBSERVER
from paddleinfer.serve.request import Request
from paddleinfer.stages import Stage

if TYPE_CHECKING:
    from paddleinfer.serve.turns import TurnPool

__all__ = ["CURRENT", "Run"]

# Of each priority, as an engine has them: what waits comes to its turn by its deadline, or as if it had this
# one, so that nothing waits for ever.
_SLACK_NS: Final = (100_000_000, 1_000_000_000, 10_000_000_000)
_USUAL: Final = 1


class Run:
    """One request. Only one thread at a time drives it."""

    __slots__ = (
        *("_depth", "_outer", "_pool", "_since_ns", "_stage", "_turn_of"),
        *("arrived_ns", "deadline_ns", "is_given_up", "key_ns", "observer", "priority", "request", "stages"),
    )

    def __init__(self, pool: TurnPool, request: Request, timeout_s: float | None) -> None:
        self._pool = pool
        self.request = request
        self.arrived_ns = monotonic_ns()
        self.deadline_ns = None if timeout_s is None else self.arrived_ns + int(timeout_s * 1e9)
        """An instant of ``time.monotonic_ns``."""
        self.priority = _USUAL if request.priority is None else request.priority
        """Of its calls of engines, too."""
        slack_ns = self.arrived_ns + _SLACK_NS[self.priority]
        self.key_ns = slack_ns if self.deadline_ns is None else min(self.deadline_ns, slack_ns)
        """Who waits for a turn gets it by the smallest of these."""
        self.is_given_up = False
        """Nobody waits for its answer any more."""
        self.stages: list[Stage] = []
        self.observer = OBSERVER.get()
        """Is told of each call of an engine; None where nobody observes it."""
        if self.observer is not None and self.observer.stages is None:
            self.observer.stages = self.stages
        self._stage: str | None = None
        self._since_ns = 0
        self._outer: str | None = None
        self._depth = 0
        self._turn_of: int | None = None

    # -- its deadline

    def left_s(self) -> float | None:
        """Seconds until its deadline, not below 0; None where it has none."""
        if self.deadline_ns is None:
            return None
        return max(0.0, (self.deadline_ns - monotonic_ns()) / 1e9)

    def timeout_s(self, given: float | None) -> float | None:
        """For a call on its behalf: the one given, or what is left where that is less."""
        left_s = self.left_s()
        if left_s is None or given is None:
            return left_s if given is None else given
        return min(given, left_s)

    def lend_priority(self, request: Any) -> Request:
        """What another service is asked on its behalf: as urgent, where the request does not say itself."""
        asked = request if isinstance(request, Request) else Request(request)
        if asked.priority is None:
            asked.priority = self.priority
        return asked

    def check(self) -> None:
        """DeadlineExceeded where its deadline has passed or nobody waits for it."""
        if self.is_given_up or (self.deadline_ns is not None and monotonic_ns() >= self.deadline_ns):
            raise DeadlineExceeded("the deadline passed before the service had its answer")

    # -- its turn

    def take_turn(self) -> None:
        """Waits for a turn on this thread; raises what ``TurnPool.take`` does."""
        self._pool.take(self.key_ns, self.deadline_ns)
        self._turn_of = threading.get_ident()

    def leave_turn(self) -> None:
        """Gives it back, if this thread has one."""
        if self._turn_of == threading.get_ident():
            self._turn_of = None
            self._pool.leave()

    def begin_turn(self) -> None:
        """The pool has given this thread, one of its own, its turn."""
        self._turn_of = threading.get_ident()

    def end_turn(self) -> bool:
        """The turn goes back to the pool; whether there still is one: none came before its deadline."""
        has_turn = self._turn_of is not None
        self._turn_of = None
        return has_turn

    @contextlib.contextmanager
    def waiting(self, stage: str = "infer") -> Iterator[None]:
        """Around a wait for an engine, another service, or others: they have the turn meanwhile."""
        has_turn = self._turn_of == threading.get_ident()
        self.begin_wait(stage)
        if has_turn:
            self.leave_turn()
        try:
            yield
        finally:
            try:
                if has_turn:
                    self.to("wait")
                    self.take_turn()
            finally:
                self.end_wait()

    # -- its stages

    def to(self, stage: str | None) -> None:
        """The next stage begins; None: the last one is over."""
        now_ns = monotonic_ns()
        if self._stage is not None:
            self.stages.append((self._stage, self._since_ns, now_ns))
        self._stage, self._since_ns = stage, now_ns

    def begin_wait(self, stage: str) -> None:
        """One more wait of this stage begins; they may overlap."""
        self._depth += 1
        if self._depth == 1:
            self._outer = self._stage
            self.to(stage)

    def end_wait(self) -> None:
        """When the last of them ends, the stage around them goes on."""
        self._depth -= 1
        if self._depth == 0:
            self.to(self._outer)


CURRENT: Final[ContextVar[Run | None]] = ContextVar("paddleinfer_serve_run", default=None)
"""The request that this code works for."""
