"""Finds the connected regions of a mask."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["MOST_REGIONS", "regions_of"]

Array = npt.NDArray[Any]

MOST_REGIONS: Final = 1000
"""Of more regions the largest are taken."""


def regions_of(mask: npt.NDArray[np.bool_]) -> list[Array]:
    """The outlines of the regions of a mask, each (points, 2) of int64, x and y.

    Pixels that touch at a side or a corner are of one region. An outline has the first and the last pixel of
    each row, which is all that a convex hull needs, in the order of y.
    """
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, begins = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    if not len(rows):
        return []
    labels = _joined(len(rows), *_touching(rows, begins, ends, mask.shape[1]))
    order = np.argsort(labels, kind="stable")
    labels, rows, begins, ends = labels[order], rows[order], begins[order], ends[order]
    is_first_of_region = np.diff(labels, prepend=-1) != 0
    sizes = np.add.reduceat(ends - begins, np.flatnonzero(is_first_of_region))
    # In each row of a region the first run begins it and the last one ends it.
    firsts = np.flatnonzero(is_first_of_region | (np.diff(rows, prepend=-1) != 0))
    lasts = np.append(firsts[1:], len(rows)) - 1
    left, right = (np.stack([x, rows[firsts]], 1) for x in (begins[firsts], ends[lasts] - 1))
    outlines = np.stack([left, right], 1)  # (rows, 2, 2)
    bounds = np.append(np.flatnonzero(is_first_of_region[firsts]), len(firsts))
    largest = np.sort(np.argsort(-sizes, kind="stable")[:MOST_REGIONS])
    return [
        outlines[begin:end].reshape(-1, 2)
        for begin, end in zip(bounds[largest].tolist(), bounds[largest + 1].tolist(), strict=True)
    ]


def _touching(rows: Array, begins: Array, ends: Array, width: int) -> tuple[Array, Array]:
    """Pairs of runs that touch: the upper ones, and the lower ones."""
    pitch = width + 2  # so that the places of one row are all before those of the next
    below = (rows + 1) * pitch
    first = np.searchsorted(rows * pitch + ends, below + begins, side="left")
    last = np.searchsorted(rows * pitch + begins, below + ends, side="right")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return upper, np.repeat(first, counts) + within


def _joined(count: int, upper: Array, lower: Array) -> Array:
    """A label for each of `count` runs, the same for those that pairs connect.

    In each round every group joins a neighbour of a smaller label, so that there are few rounds.
    """
    labels = np.arange(count)
    while True:
        above, below = labels[upper], labels[lower]
        if np.array_equal(above, below):
            return labels
        np.minimum.at(labels, np.maximum(above, below), np.minimum(above, below))
        while not np.array_equal(labels, further := labels[labels]):
            labels = further
