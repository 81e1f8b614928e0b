"""Runs a stream of requests, several at once, and yields their results in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol

import numpy.typing as npt

__all__ = ["UnderWay", "in_order"]

Results = dict[str, npt.NDArray[Any]]

_LEAST_UNDER_WAY = 2
# The longest time that a ready result is held back while further items are asked for.
_PATIENCE_S = 0.005
# The share of a slow item's time that is spent waiting for a result before the next item is asked for.
_WAIT_SHARE = 0.05


class UnderWay(Protocol):
    """A request that was queued."""

    @property
    def rows(self) -> int:
        """The number of its rows."""

    def done(self) -> bool:
        """Tells whether it has ended."""

    def wait(self, timeout: float | None) -> bool:
        """Waits for its end."""

    def result(self) -> Results:
        """Returns its outputs, or raises its error."""

    def give_up(self) -> None:
        """Ends it."""


def in_order(
    inputs: Iterator[Any],
    start: Callable[[Any], UnderWay],
    most_items: int,
    most_rows: int,
    progress: Callable[[int], object] | None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Results]:
    """Starts up to `most_items` requests and `most_rows` rows ahead of the next result.

    An error of the iterator or of `start` is raised after the results before it.
    """
    under_way: deque[UnderWay] = deque()
    failure: BaseException | None = None
    ended = False
    try:
        while True:
            # Full batches need many requests under way, but a ready result does not wait for a slow iterable.
            until = clock() + _PATIENCE_S
            due = False
            while not (ended or due) and _has_room(under_way, most_items, most_rows):
                asked = clock()
                try:
                    under_way.append(start(next(inputs)))
                except StopIteration:
                    ended = True
                except Exception as error:
                    ended = True
                    failure = error
                took = clock() - asked
                if took > _PATIENCE_S and under_way:  # the next item may take as long
                    under_way[0].wait(took * _WAIT_SHARE)
                due = clock() > until and bool(under_way) and under_way[0].done()
            if not under_way:
                break
            handle = under_way[0]
            handle.wait(None)
            under_way.popleft()
            results = handle.result()
            if progress is not None:
                progress(1)
            yield results
        if failure is not None:
            raise failure
    finally:
        failure = None  # otherwise its traceback would keep itself alive
        for handle in under_way:
            handle.give_up()


def _has_room(under_way: Collection[UnderWay], most_items: int, most_rows: int) -> bool:
    """Tells whether another may start. Two always may: one runs while the other's result is used."""
    if len(under_way) >= most_items:
        return False
    return len(under_way) < _LEAST_UNDER_WAY or sum(handle.rows for handle in under_way) < most_rows
