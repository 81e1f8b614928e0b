"""Iterables and results of ``Engine.infer_many``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from engine_helpers import rows


class Pulled:
    """Numbers as inputs; counts how many were asked for."""

    def __init__(self, count: int | None = None, fails_at: int | None = None, chunk_rows: int = 1) -> None:
        self.count = 0
        self._chunk_rows = chunk_rows
        self._most = count
        self._fails_at = fails_at

    def __iter__(self) -> Iterator[np.ndarray]:
        for number in itertools.count() if self._most is None else range(self._most):
            self.count += 1
            if number == self._fails_at:
                raise KeyError("the iterable")
            yield rows(self._chunk_rows, number)


def values(results: Iterator[dict[str, np.ndarray]]) -> list[float]:
    return [float(given["y"][0, 0]) for given in results]


def doubled(count: int) -> list[float]:
    return [2.0 * number for number in range(count)]
