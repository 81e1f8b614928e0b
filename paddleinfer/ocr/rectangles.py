"""The smallest rectangle around points, and what is done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["Rectangle", "smallest_around", "sums_along_rows"]

Array = npt.NDArray[Any]

# A pixel this near outside of a rectangle's edge is inside, as its place is not exact.
_ON_THE_EDGE: Final = 1e-6
# Of a vertical axis, whose bounds are the same for all pixels of a row: they are then far outside.
_LEVEL: Final = 1e-30


@dataclass(frozen=True)
class Rectangle:
    """A rectangle that may be turned."""

    centre: Array
    axes: Array
    """(2, 2): two unit vectors along its sides."""
    sizes: Array
    """Its sizes along these."""

    @property
    def short_side(self) -> float:
        """In pixels."""
        return float(self.sizes.min())

    def grown(self, ratio: float) -> Rectangle:
        """Larger on all sides by its area times `ratio` over its circumference."""
        distance = self.sizes.prod() * ratio / (2 * self.sizes.sum())
        return Rectangle(self.centre, self.axes, self.sizes + 2 * distance)

    def corners(self) -> Array:
        """(4, 2): top left, top right, bottom right, bottom left."""
        halves = self.axes * (self.sizes / 2)[:, None]
        signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        corners = self.centre + np.array([s * halves[0] + t * halves[1] for s, t in signs])
        left, right = np.split(corners[np.argsort(corners[:, 0], kind="stable")], 2)
        (top_left, bottom_left), (top_right, bottom_right) = (
            pair[np.argsort(pair[:, 1])] for pair in (left, right)
        )
        return np.array([top_left, top_right, bottom_right, bottom_left])

    def mean_of(self, sums: Array) -> float:
        """The mean of an array over the pixels inside, by its `sums_along_rows`; 0 if there are none."""
        height, width = len(sums), sums.shape[1] - 1
        across = self.corners()[:, 1]
        top, bottom = np.clip([np.floor(across.min()), np.ceil(across.max())], 0, height - 1).astype(int)
        y = np.arange(top, bottom + 1)
        slopes = np.where(self.axes[:, 0] == 0, _LEVEL, self.axes[:, 0])[:, None]
        middles = (self.axes[:, 1:] * (self.centre[1] - y)) / slopes + self.centre[0]  # (axes, rows)
        reaches = (self.sizes[:, None] / 2 + _ON_THE_EDGE) / np.abs(slopes)
        begins = np.clip(np.ceil((middles - reaches).max(0)), 0, width).astype(int)
        ends = np.clip(np.floor((middles + reaches).min(0)) + 1, begins, width).astype(int)
        count = int((ends - begins).sum())
        return float((sums[y, ends] - sums[y, begins]).sum() / count) if count else 0.0


def sums_along_rows(values: Array) -> Array:
    """Of an array (height, width): (height, width + 1) of float64, the sum of what is left of each place."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def smallest_around(points: Array) -> Rectangle:
    """The rectangle of least area around points, (n, 2) of x and y; one of its sides lies on their hull."""
    hull = _hull(points.tolist())
    edges = np.diff(hull, axis=0, append=hull[:1])
    lengths = np.hypot(edges[:, 0], edges[:, 1])
    if not lengths.any():  # one point
        return Rectangle(hull[0], np.eye(2), np.zeros(2))
    along = edges[lengths > 0] / lengths[lengths > 0, None]
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    spans = [hull @ directions.T for directions in (along, across)]  # (points, edges)
    least, most = (np.stack([edge(span, axis=0) for span in spans]) for edge in (np.min, np.max))
    best = int(np.argmin((most - least).prod(0)))
    axes = np.stack([along[best], across[best]])
    middle = (most[:, best] + least[:, best]) / 2
    return Rectangle(middle @ axes, axes, most[:, best] - least[:, best])


def _hull(points: Sequence[Sequence[int]]) -> Array:
    """The corners of the convex hull, by Andrew's monotone chain."""

    def chain(ordered: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        kept: list[Sequence[int]] = []
        for x, y in ordered:
            while len(kept) > 1:
                (x0, y0), (x1, y1) = kept[-2], kept[-1]
                if (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) < 0:
                    break
                kept.pop()
            kept.append((x, y))
        return kept

    ordered = sorted(points, key=lambda point: (point[1], point[0]))
    there, back = chain(ordered), chain(ordered[::-1])
    return np.array([*there[:-1], *back[:-1]] or there, dtype=np.float64)
