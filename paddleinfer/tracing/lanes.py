"""Assigns lanes to items that overlap: rows of a picture, or tracks of a trace."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

__all__ = ["in_lanes"]

_Item = TypeVar("_Item")


def in_lanes(
    items: Iterable[tuple[float, float, _Item]],
    may_join: Callable[[Sequence[_Item], _Item], bool] | None = None,
) -> list[tuple[int, _Item]]:
    """Yields each of (begin, end, item), by its begin, with the first lane that is free then.

    Parameters
    ----------
    may_join
        It tells whether an item may join a lane with these items, which are not over when it begins.
    """
    placed = []
    held: list[list[tuple[float, _Item]]] = []  # for each lane: (end, item)
    ends: list[tuple[float, int]] = []  # (end, lane)
    free: list[int] = []
    for begin, end, item in sorted(items, key=lambda entry: (entry[0], -entry[1])):
        while ends and ends[0][0] <= begin:
            lane = heapq.heappop(ends)[1]
            if held[lane]:
                held[lane] = [entry for entry in held[lane] if entry[0] > begin]
                if not held[lane]:
                    heapq.heappush(free, lane)
        lane = free[0] if free else len(held)
        if may_join is not None:
            busy = (n for n in range(lane) if may_join([inside for _, inside in held[n]], item))
            lane = next(busy, lane)
        if lane == len(held):
            held.append([])
        elif not held[lane]:
            heapq.heappop(free)
        held[lane].append((end, item))
        heapq.heappush(ends, (end, lane))
        placed.append((lane, item))
    return placed
