"""The smallest rectangle around points, and what is done with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Rectangle", "smallest_around"]

Array = npt.NDArray[Any]


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

    def mean_of(self, values: Array) -> float:
        """The mean of an array (height, width) over the pixels inside."""
        corners = self.corners()
        most = np.array(values.shape[::-1]) - 1
        (left, top), (right, bottom) = (
            np.clip(edge, 0, most).astype(int) for edge in (np.floor(corners.min(0)), np.ceil(corners.max(0)))
        )
        y, x = np.mgrid[top : bottom + 1, left : right + 1]
        places = np.stack([x, y], -1) - self.centre
        inside = (np.abs(places @ self.axes.T) <= self.sizes / 2 + 1e-6).all(-1)
        return float(values[top : bottom + 1, left : right + 1][inside].mean()) if inside.any() else 0.0


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
