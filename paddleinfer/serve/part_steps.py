"""A request whose function comes in parts, from an event loop: parts in the pool, waits on the loop."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from time import monotonic_ns
from typing import Any

from paddleinfer.serve.functions import Asked
from paddleinfer.serve.plain_steps import PlainSteps

__all__ = ["PartSteps"]


class PartSteps(PlainSteps):
    """Each part runs in the pool, in its turn; what it yields is awaited on the loop, for the next."""

    __slots__ = ("_parts",)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._parts: Generator[Asked, Any, Any] | None = None

    def work(self) -> Any:
        """The part whose turn it is: what it asks for, or the answer."""
        is_first, began_ns = self._parts is None, monotonic_ns()
        given = self._steps.one(self._run, "handle", self._advance, decodes=is_first)
        (self._before if is_first else self._after).note(monotonic_ns() - began_ns)
        return given

    def _advance(self) -> Any:
        results, self._results = self._results, None
        try:
            if self._parts is None:
                assert self._steps.functions.parts is not None
                self._parts = self._steps.functions.parts(self._run.request)
                return next(self._parts)
            return self._parts.send(results)
        except StopIteration as end:
            self._is_last = True
            return self._steps.finished(self._run, self._finish, end.value)

    def _asked(self, inputs: Asked) -> Coroutine[Any, Any, Any]:
        return inputs.on_loop()
