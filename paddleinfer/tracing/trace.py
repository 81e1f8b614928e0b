"""Records an engine's requests and runs, each with the instants between its stages."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from paddleinfer import _ext
from paddleinfer.config import is_int
from paddleinfer.errors import ConfigError, PaddleInferError
from paddleinfer.sentences import shown
from paddleinfer.tracing.files import write_trace
from paddleinfer.tracing.records import TracedRequest, TracedRun
from paddleinfer.tracing.timeline import Activity, chrome_trace

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Trace", "Tracing"]

_MOST_REQUESTS = 10_000_000


class Tracing:
    """Keeps the recent requests and runs of an engine, as many as its readers want."""

    def __init__(self, ring: _ext.TraceRing, always: int) -> None:
        self.ring = ring
        self._always = always
        self._lock = threading.Lock()
        self._wanted: list[int] = []  # guarded by _lock

    def begin(self, max_requests: int) -> tuple[int, int]:
        """Keeps so many from now on, and returns how many (requests, runs) were recorded before."""
        with self._lock:
            self._wanted.append(max_requests)
            self.ring.keep(max(self._always, *self._wanted))
            return self.ring.recorded()

    def end(self, max_requests: int) -> None:
        """Keeps only as many as other readers want."""
        with self._lock:
            self._wanted.remove(max_requests)
            self.ring.keep(max([self._always, *self._wanted]))

    def since(self, begin: tuple[int, int]) -> tuple[list[TracedRequest], list[TracedRun]]:
        """Returns what was recorded after `begin`, as far as it is still kept."""
        return (
            [TracedRequest(*record) for record in self.ring.requests_since(begin[0])],
            [TracedRun(*record) for record in self.ring.runs_since(begin[1])],
        )

    def recent(self) -> tuple[list[TracedRequest], list[TracedRun]]:
        """Returns all that is kept."""
        return self.since((0, 0))


class Trace:
    """Records during ``with engine.trace() as trace:``; then it has `requests` and `runs`.

    A trace is made by ``Engine.trace`` and used once.
    """

    def __init__(self, tracing: Tracing, label: str, max_requests: int) -> None:
        if not is_int(max_requests) or not 1 <= max_requests <= _MOST_REQUESTS:
            raise ConfigError(
                f"max_requests must be an integer from 1 to {_MOST_REQUESTS}, not {shown(max_requests)}"
            )
        self._tracing = tracing
        self._label = label
        self._max_requests = max_requests
        self._begin: tuple[int, int] | None = None
        self._ended = False
        self.requests: list[TracedRequest] = []
        """Those that ended inside the block, in the order of their ends."""
        self.runs: list[TracedRun] = []
        """Those that ended inside the block, in the order of their ends."""
        self.lost_requests = 0
        """How many more requests ended than `max_requests` could keep."""

    def __enter__(self) -> Self:
        if self._begin is not None:
            raise PaddleInferError("a trace is used once; call engine.trace() again for another")
        self._begin = self._tracing.begin(self._max_requests)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        assert self._begin is not None
        recorded, _ = self._tracing.ring.recorded()
        self.requests, self.runs = self._tracing.since(self._begin)
        self._tracing.end(self._max_requests)
        self.lost_requests = max(0, recorded - self._begin[0] - len(self.requests))
        self._ended = True

    def activity(self) -> Activity:
        """Returns what ``timeline.chrome_trace`` takes, which can draw several engines together.

        Raises
        ------
        PaddleInferError
            The ``with`` block has not ended.
        """
        if not self._ended:
            raise PaddleInferError("the trace is complete once its with block has ended")
        return Activity(self._label, self.requests, self.runs, self.lost_requests)

    def to_chrome(self) -> dict[str, Any]:
        """Returns an object of the Chrome Trace Event Format. Raises what ``activity`` raises."""
        return chrome_trace(self.activity())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the trace as JSON that https://ui.perfetto.dev opens, or as gzip if the path ends in ".gz".

        Raises OSError, and what ``to_chrome`` raises.
        """
        write_trace(path, self.to_chrome())

    def __repr__(self) -> str:
        state = "ended" if self._ended else "recording" if self._begin else "not begun"
        return f"<Trace of {self._label}, {state}: {len(self.requests)} requests, {len(self.runs)} runs>"
