"""Who is told of a request to a service: of its stages, and of each call of an engine that is made for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol

from paddleinfer.stages import Stage

if TYPE_CHECKING:
    from paddleinfer.explanation import InferInfo

__all__ = ["OBSERVER", "ServiceObserver", "telling"]


class ServiceObserver(Protocol):
    """Observes one request. Calls of engines may come from several threads."""

    stages: list[Stage] | None
    """The request's, which it goes on to fill; None before it has begun."""

    def begin(self, engine: str) -> Any | None:
        """Returns what stands for a call of this engine; None if it is not to be told of its end."""

    def end(self, call: Any, info: InferInfo) -> None:
        """Notes that the call has its results."""

    def fail(self, call: Any, error: BaseException) -> None:
        """Notes that it has none."""


OBSERVER: Final[ContextVar[ServiceObserver | None]] = ContextVar("paddleinfer_serve_observer", default=None)
"""Observes the request to a service that this code makes, and those that its functions make of others."""


@contextlib.contextmanager
def telling(observer: ServiceObserver, engine: str) -> Iterator[Callable[[InferInfo], None]]:
    """Tells of a call of an engine; the block calls what it gets once there are results."""
    call = observer.begin(engine)
    if call is None:
        yield lambda _: None
        return
    try:
        yield lambda info: observer.end(call, info)
    except BaseException as error:
        observer.fail(call, error)
        raise
