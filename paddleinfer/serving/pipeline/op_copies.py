"""An Op at work: its copies, and who may be in their functions."""

from __future__ import annotations

import contextlib
import copy
import itertools
import threading
from collections.abc import Iterator

from paddleinfer.serve.run import CURRENT
from paddleinfer.serving.pipeline.hooks import Hook
from paddleinfer.serving.pipeline.op import Op

__all__ = ["OpAtWork", "OpCopies"]

_PREPROCESS = (("feed", None), ("is_skip_process", False), ("prod_errcode", None), ("prod_errinfo", ""))
_POSTPROCESS = (("output", None), ("prod_errcode", None), ("prod_errinfo", ""))


class OpAtWork:
    """An Op as one request has it: attributes that its functions set are this request's own."""

    __slots__ = ("_turns", "op")

    def __init__(self, op: Op, turns: threading.Semaphore) -> None:
        self.op = copy.copy(op)
        self._turns = turns

    @contextlib.contextmanager
    def in_functions(self) -> Iterator[None]:
        """Around its functions, which so many requests may be in at once as the Op's ``concurrency`` says.

        Raises
        ------
        DeadlineExceeded
            The request's deadline passed before.
        """
        if not self._turns.acquire(blocking=False):
            self._wait()
        try:
            yield
        finally:
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
            copies = [(op, threading.Semaphore(concurrency))]
        else:
            copies = [(copy.copy(op), threading.Semaphore(1)) for _ in range(concurrency)]
        for number, (one, _) in enumerate(copies):
            one.concurrency_idx = None if shares_op else number
            one.init_op()
        self._turns = itertools.cycle(copies)

    def lend(self) -> OpAtWork:
        """For one request; the copies take turns."""
        return OpAtWork(*next(self._turns))
