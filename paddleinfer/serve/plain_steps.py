"""A request of plain functions around an engine, from an event loop, with callbacks between them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import copy_context
from time import monotonic_ns
from typing import Any, Final

from paddleinfer.serve.loops import LoopJob, Mail
from paddleinfer.serve.run import CURRENT, Run
from paddleinfer.serve.steps import Finish, Steps

__all__ = ["PlainSteps", "UsualTime"]

# A further thread is not awake much sooner.
_SHORT_NS: Final = 100_000
_SEEN_TOGETHER: Final = 32


class UsualTime:
    """Whether a function is usually short, by the mean of its last times.

    It is not as soon as few of them take as long as many should: who comes behind such a one waits for it.
    Threads may note at once; one of them may be lost.
    """

    __slots__ = ("_count", "_short_ns", "_total_ns", "is_short")

    def __init__(self, short_ns: int = _SHORT_NS) -> None:
        self._short_ns = short_ns
        self._count = 0
        self._total_ns = 0
        self.is_short = False

    def note(self, took_ns: int) -> None:
        """It took so long."""
        self._count += 1
        self._total_ns += took_ns
        is_long = self._total_ns >= self._short_ns * _SEEN_TOGETHER
        if is_long or self._count >= _SEEN_TOGETHER:
            self.is_short = not is_long
            self._count = self._total_ns = 0


class PlainSteps(LoopJob):
    """Its functions run in the pool, each in its turn, and the loop asks the engine between them.

    A task awaits `future`. The loop does what is between the functions in callbacks: a task that is woken for
    them goes through all the coroutines around it each time.
    """

    __slots__ = (
        *("_asking", "_before", "_context", "_finish", "_after", "_is_last"),
        *("_results", "_steps", "_waited", "future"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mail: Mail,
        run: Run,
        steps: Steps,
        finish: Finish | None,
        before: UsualTime,
        after: UsualTime,
    ) -> None:
        super().__init__(loop, mail, run, steps.failed)
        self._steps = steps
        self._finish = finish
        self._before = before
        self._after = after
        self._is_last = False  # the function whose turn it is gives the answer
        self._results: Any = None
        self._asking: Coroutine[Any, Any, Any] | None = None
        self._waited: asyncio.Future[Any] | None = None
        self._context = copy_context()
        self._context.run(CURRENT.set, run)
        self.future: asyncio.Future[Any] = loop.create_future()
        """Of the answer."""

    def begin(self) -> None:
        """Starts the first function."""
        self.is_short = self._before.is_short and not self._run.request.is_large
        self.post()

    # -- on a thread of the pool

    def work(self) -> Any:
        """The function whose turn it is."""
        steps, functions, run = self._steps, self._steps.functions, self._run
        began_ns = monotonic_ns()
        if not self._is_last:
            assert functions.preprocess is not None
            given = steps.one(run, "preprocess", functions.preprocess, run.request, decodes=True)
            self._before.note(monotonic_ns() - began_ns)
            return given
        assert functions.postprocess is not None
        results, self._results = self._results, None
        given = steps.one(
            run, "postprocess", functions.postprocess, results, run.request, finish=self._finish
        )
        self._after.note(monotonic_ns() - began_ns)
        return given

    # -- on the loop

    def tell(self, result: Any, error: Exception | None) -> None:
        """What a function gave: what is to be waited for, or the answer."""
        if self.future.done():  # nobody waits for it any more
            return
        if error is not None:
            self.future.set_exception(error)
        elif self._is_last:
            self.future.set_result(result)
        else:
            self._asking = self._asked(result)
            self._context.run(self._go_on)

    def _asked(self, inputs: Any) -> Coroutine[Any, Any, Any]:
        """Waits for what the next function is given."""
        self._is_last = True
        return self._steps.ask(inputs)

    def _go_on(self, waited: asyncio.Future[Any] | None = None) -> None:
        """Drives the engine's coroutine to the next future that it awaits, as a task would."""
        asking = self._asking
        if asking is None:  # given up meanwhile
            if waited is not None and not waited.cancelled():
                waited.exception()  # marks it as seen
            return
        self._waited = None
        try:
            awaited = asking.send(None)
        except StopIteration as end:
            self._asking = None
            self._go_on_after(end.value)
        except asyncio.CancelledError:  # the engine's future was
            self._asking = None
            self.future.cancel()
        except Exception as error:
            self._asking = None
            if not self.future.done():
                self.future.set_exception(error)
        else:
            if awaited is None:  # a turn of the loop
                self._loop.call_soon(self._go_on, context=self._context)
                return
            awaited._asyncio_future_blocking = False
            self._waited = awaited
            awaited.add_done_callback(self._go_on, context=self._context)

    def _go_on_after(self, results: Any) -> None:
        if self.future.done():
            return
        self._results = results
        self._run.to("wait")
        self.is_short = self._after.is_short
        self.post()

    def give_up(self) -> None:
        """Nobody waits for it any more: what the engine still does for it need not be done."""
        asking, self._asking = self._asking, None
        waited, self._waited = self._waited, None
        if waited is not None and not waited.done():
            waited.cancel()
        if asking is not None:
            self._context.run(asking.close)
