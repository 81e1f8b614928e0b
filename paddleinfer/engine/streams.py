"""A stream of requests, several under way, whose results come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy.typing as npt

__all__ = ["UnderWay", "in_order"]

Results = dict[str, npt.NDArray[Any]]


class UnderWay(Protocol):
    """A request that was queued."""

    def wait(self, timeout: float | None) -> bool:
        """Waits for its end."""

    def result(self) -> Results:
        """Its outputs, or raises its error."""

    def give_up(self) -> None:
        """Ends it."""


def in_order(
    inputs: Iterator[Any],
    start: Callable[[Any], UnderWay],
    look_ahead: int,
    progress: Callable[[int], object] | None,
) -> Iterator[Results]:
    """Starts requests up to `look_ahead` ahead of the result that is given next.

    What the iterator or `start` raises is raised after the results before it.
    """
    under_way: deque[UnderWay] = deque()
    failure: BaseException | None = None
    ended = False
    given = 0
    try:
        while True:
            while not ended and len(under_way) < look_ahead:
                try:
                    under_way.append(start(next(inputs)))
                except StopIteration:
                    ended = True
                except Exception as error:
                    ended = True
                    failure = error
            if not under_way:
                break
            handle = under_way[0]
            handle.wait(None)
            under_way.popleft()
            results = handle.result()
            given += 1
            if progress is not None:
                progress(given)
            yield results
        if failure is not None:
            raise failure
    finally:
        failure = None  # or its traceback would keep itself alive
        for handle in under_way:
            handle.give_up()
