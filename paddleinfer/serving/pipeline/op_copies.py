"""An Op at work: its copies, and who may be in their functions."""

from __future__ import annotations

import copy
import itertools
import threading
from typing import Any

from paddleinfer.serve.run import CURRENT
from paddleinfer.serving.pipeline.hooks import Hook
from paddleinfer.serving.pipeline.op import Op

__all__ = ["Copier", "OpAtWork", "OpCopies"]

_PREPROCESS = (("feed", None), ("is_skip_process", False), ("prod_errcode", None), ("prod_errinfo", ""))
_POSTPROCESS = (("output", None), ("prod_errcode", None), ("prod_errinfo", ""))


class Copier:
    """Makes copies of one Op, each with attributes of its own; what these hold is shared."""

    __slots__ = ("_is_plain", "op")

    def __init__(self, op: Op) -> None:
        self.op = op
        self._is_plain = not any(vars(kind).get("__slots__") for kind in type(op).__mro__)

    def __call__(self) -> Any:
        """One more."""
        if not self._is_plain:
            return copy.copy(self.op)
        made = object.__new__(type(self.op))
        made.__dict__.update(self.op.__dict__)  # which is what copy does, in a tenth of its time
        return made


class OpAtWork:
    """An Op as one request has it: attributes that its functions set are this request's own.

    A ``with`` block is around its functions, which so many requests may be in at once as the Op's
    ``concurrency`` says. It raises DeadlineExceeded where the request's deadline passes before that.
    """

    __slots__ = ("_turns", "op")

    def __init__(self, op: Op, turns: threading.Semaphore) -> None:
        self.op = op
        self._turns = turns

    def __enter__(self) -> None:
        if not self._turns.acquire(blocking=False):
            self._wait()

    def __exit__(self, *_: object) -> None:
        self._turns.release()

    def _wait(self) -> None:
        request = CURRENT.get()
        if request is None:
            self._turns.acquire()
            return
        is_ours = False
        try:
            with request.waiting("wait"):
                is_ours = self._turns.acquire(timeout=request.left_s())
            request.check()
        except BaseException:  # the deadline, or the end of the service, may come with the turn
            if is_ours:
                self._turns.release()
            raise


class OpCopies:
    """All copies of one Op.

    Parameters
    ----------
    op
        With its model, and not yet initialised.
    concurrency
        How many requests may be in its functions at once.
    shares_op
        Whether they share what ``init_op`` made (``is_thread_op``). Otherwise there are as many copies, each
        of which was initialised by itself, and has one request in its functions.
    """

    def __init__(self, op: Op, concurrency: int, *, shares_op: bool) -> None:
        self.op = op
        self.preprocess = Hook(op, "preprocess", 1, _PREPROCESS)
        self.postprocess = Hook(op, "postprocess", 2, _POSTPROCESS)
        self.runs_itself = type(op).process is not Op.process
        """Whether the class has a ``process`` of its own."""
        if shares_op:
            copies = [(Copier(op), threading.Semaphore(concurrency))]
        else:
            own = Copier(op)
            copies = [(Copier(own()), threading.Semaphore(1)) for _ in range(concurrency)]
        for number, (copier, _) in enumerate(copies):
            copier.op.concurrency_idx = None if shares_op else number
            copier.op.init_op()
        self._turns = itertools.cycle(copies)

    def lend(self) -> OpAtWork:
        """For one request; the copies take turns."""
        copier, turns = next(self._turns)
        return OpAtWork(copier(), turns)
