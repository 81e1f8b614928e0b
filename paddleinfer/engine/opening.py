"""Represents a model's load that is under way, and that another thread may end."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator

from paddleinfer.errors import EngineClosed, OutOfMemory, PaddleInferError

__all__ = ["Opening", "end_openings", "opening", "saying_what_lacks_memory"]


class Opening:
    """One load. Its thread checks it between steps, and registers what ends the step that it waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = False
        self._ends: list[Callable[[], object]] = []

    def end(self) -> None:
        """Has the load raise EngineClosed as soon as it can; any thread may call it."""
        with self._lock:
            self._ended = True
            ends = list(self._ends)
        for end in ends:
            end()

    def check(self) -> None:
        """Raises EngineClosed if the load was ended."""
        if self._ended:
            raise EngineClosed("the load of the model was ended before it was over")

    @contextlib.contextmanager
    def ended_by(self, end: Callable[[], object]) -> Iterator[None]:
        """Wraps a block that waits for something; `end` is called to end the wait.

        Raises
        ------
        EngineClosed
            The load was ended, before the block or in it.
        """
        with self._lock:
            self.check()
            self._ends.append(end)
        try:
            yield
        finally:
            with self._lock:
                self._ends.remove(end)
            self.check()


_under_way: set[Opening] = set()


@contextlib.contextmanager
def opening() -> Iterator[Opening]:
    """Makes the Opening of the block that loads."""
    one = Opening()
    _under_way.add(one)
    try:
        yield one
    finally:
        _under_way.discard(one)


@contextlib.contextmanager
def saying_what_lacks_memory(model: object) -> Iterator[None]:
    """Turns a lack of memory in the block that loads this model into a sentence.

    Raises
    ------
    OutOfMemory
        Something in the block had no memory, and had no sentence for that.
    """
    try:
        yield
    except PaddleInferError:
        raise
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        raise OutOfMemory(
            f"there was not enough memory to load {model}; free some, or raise the limit of the process "
            "(ulimit -v) or of its container"
        ) from error


def end_openings() -> None:
    """Ends all loads of this process, which is about to end."""
    for one in list(_under_way):
        one.end()


os.register_at_fork(after_in_child=_under_way.clear)  # their threads belong to the parent
