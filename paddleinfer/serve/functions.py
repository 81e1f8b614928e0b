"""The functions of a service: which there are, and which of them are coroutines."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from paddleinfer.serve.engines import EngineOfService
from paddleinfer.serve.request import Request

__all__ = ["Asked", "Functions", "is_async"]


def is_async(function: Any) -> bool:
    """Whether a call of it is to be awaited."""
    called = getattr(function, "__call__", None)  # noqa: B004 - of an object that is called
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


class Asked(Protocol):
    """What a function in parts waits for."""

    def on_loop(self) -> Coroutine[Any, Any, Any]:
        """Waits on an event loop, and gives what the next part is sent."""


@dataclass(frozen=True)
class Functions:
    """What a service is made of: `handle` alone, or the two others around an engine."""

    engine: Callable[[], EngineOfService]
    preprocess: Callable[[Request], Any] | None = None
    postprocess: Callable[[Any, Request], Any] | None = None
    handle: Callable[[Request], Any] | None = None
    parts: Callable[[Request], Generator[Asked, Any, Any]] | None = None
    """The same as `handle`, in parts: for event loops, which wait between them in the place of a thread."""
    checks_inputs: bool = False
    """What does not fit the engine was made by `preprocess`, and is no fault of the client."""

    @property
    def is_whole(self) -> bool:
        """Whether one function does all."""
        return self.handle is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Of those that a request goes through."""
        return ("handle",) if self.is_whole else ("preprocess", "postprocess")

    @functools.cached_property
    def awaited(self) -> dict[str, bool]:
        """Whether each of them is a coroutine function, by its name."""
        return {name: is_async(getattr(self, name)) for name in self.names}

    @functools.cached_property
    def is_async(self) -> bool:
        """Whether any of them is a coroutine function."""
        return any(self.awaited.values())
