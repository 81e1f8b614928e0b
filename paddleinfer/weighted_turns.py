"""Splits requests over variants by their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

__all__ = ["WeightedTurns"]


class Weighted(Protocol):
    """A variant."""

    @property
    def weight(self) -> int | None:
        """Its part of the requests is this over the sum of all weights."""

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""


Variant = TypeVar("Variant", bound=Weighted)


class WeightedTurns:
    """Says which variant the next request goes to.

    No chance is in it: of as many requests in a row as the weights add up to, each variant gets as many as
    its weight, and they are spread evenly (smooth weighted round-robin). One that is not ready is passed
    over, and is owed nothing when it comes back.
    """

    def __init__(self, variants: int) -> None:
        self._owed = [0] * variants

    def next(self, variants: Sequence[Variant]) -> Variant:
        """One that is ready, where there is one; of those with a weight above 0, unless none of these is."""
        ready = [place for place, variant in enumerate(variants) if variant.ready]
        weighted = [place for place in ready if variants[place].weight]
        if not weighted:
            return variants[ready[0] if ready else 0]
        total = 0
        for place in weighted:
            weight = variants[place].weight or 0
            self._owed[place] += weight
            total += weight
        chosen = max(weighted, key=lambda place: self._owed[place])
        self._owed[chosen] -= total
        for place in range(len(variants)):
            if place not in weighted:
                self._owed[place] = 0
        return variants[chosen]
