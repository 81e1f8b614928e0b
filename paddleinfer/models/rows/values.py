"""Describes what is known of a value inside a model: which of its axes is the batch, if any.

Sizes are products of the number of rows and of other free sizes, so that a reshape that folds the batch
axis with another one can be followed, and one that unfolds it, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction

__all__ = ["ONE", "ROWS", "Cause", "Kind", "Size", "Value", "fresh_size", "join", "known", "product"]

_MOST_SYMBOLS = 16
_fresh = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Size:
    """A positive number times powers of symbols; symbol 0 is the number of rows."""

    factor: Fraction
    powers: tuple[tuple[int, int], ...] = ()

    @property
    def number(self) -> int | None:
        """The size as a number, if it is known before a run."""
        if self.powers or self.factor.denominator != 1:
            return None
        return self.factor.numerator

    @property
    def has_rows(self) -> bool:
        """Tells whether it grows with the number of rows."""
        return bool(self.powers) and self.powers[0][0] == 0

    def times(self, other: Size, sign: int = 1) -> Size | None:
        """Returns the product, or with `sign` -1 the quotient; None where following it does not pay."""
        if sign < 0 and not other.factor:
            return None
        powers = dict(self.powers)
        for symbol, power in other.powers:
            powers[symbol] = powers.get(symbol, 0) + sign * power
        kept = tuple(sorted((symbol, power) for symbol, power in powers.items() if power))
        if len(kept) > _MOST_SYMBOLS:
            return None
        return Size(self.factor * other.factor if sign > 0 else self.factor / other.factor, kept)

    def over(self, other: Size) -> Size | None:
        """The quotient."""
        return self.times(other, -1)

    def divides(self, other: Size) -> bool:
        """Tells whether the other is surely a multiple of it."""
        quotient = other.over(self)
        return (
            quotient is not None
            and quotient.factor.denominator == 1
            and all(power > 0 for _, power in quotient.powers)
        )


ONE = Size(Fraction(1))
ROWS = Size(Fraction(1), ((0, 1),))
"""The number of rows of the batch."""


def known(number: int) -> Size:
    """Makes a size that is known before a run."""
    return Size(Fraction(number))


def fresh_size() -> Size:
    """Makes an unknown size that does not follow the rows."""
    return Size(Fraction(1), ((next(_fresh), 1),))


def product(sizes: Iterable[Size | None]) -> Size | None:
    """Multiplies sizes; None if one of them is not known."""
    found: Size | None = ONE
    for size in sizes:
        if size is None or found is None:
            return None
        found = found.times(size)
    return found


class Kind(Enum):
    """What a value depends on."""

    CONSTANT = 1
    """It depends on nothing a caller sends, or only on sizes beyond the rows, which requests share."""
    SIZES = 2
    """It depends on the number of rows."""
    ROWS = 3
    """Its entries along one axis each depend on one row of the inputs."""
    UNKNOWN = 4
    """It depends on the inputs, in a way that is not followed."""
    MIXED = 5
    """Entries depend on several rows or on their row's place, or their number depends on the data."""


@dataclass(frozen=True, slots=True)
class Cause:
    """The operator that a verdict rests on."""

    operator: str
    why: str


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of one value."""

    kind: Kind
    sizes: tuple[Size | None, ...] | None = None
    """Its sizes; None if the number of axes is not known."""
    axis: int = 0
    """For ROWS: the axis that holds the rows: `outer` times all rows, each of them `inner` times."""
    outer: Size = ONE
    inner: Size = ONE
    cause: Cause | None = None
    """For MIXED and UNKNOWN: the operator it began at; for ROWS: the last that moved or folded the axis."""
    content: tuple[Size | None, ...] | None = None
    """The numbers in a small tensor of whole numbers, such as a shape."""
    elements: tuple[Value, ...] | None = None
    """The elements of a list of tensors."""
    follows_data: bool = False
    """For MIXED: whether the sizes depend on the data, too."""
    certain: bool = True
    """For SIZES: whether it surely depends on the number of rows."""

    @property
    def is_plain(self) -> bool:
        """Tells whether axis 0 is the batch and nothing else."""
        return self.axis == 0 and self.outer == ONE and self.inner == ONE

    @property
    def rank(self) -> int | None:
        """The number of axes."""
        return None if self.sizes is None else len(self.sizes)


def join(one: Value, other: Value) -> Value:
    """Returns what is known of a value that may be either of two."""
    if one == other:
        return one
    if one.kind is other.kind is Kind.ROWS:
        if (one.axis, one.outer, one.inner) == (other.axis, other.outer, other.inner):
            return replace(one, sizes=_joined_sizes(one.sizes, other.sizes))
        return Value(Kind.UNKNOWN, cause=one.cause or other.cause)
    more = max(one, other, key=lambda value: value.kind.value)
    less = one if more is other else other
    if more.kind is Kind.ROWS and more.sizes is not None and less.kind is Kind.SIZES:
        return Value(Kind.UNKNOWN, cause=less.cause)
    elements = None
    if one.elements is not None and other.elements is not None and len(one.elements) == len(other.elements):
        elements = tuple(join(*pair) for pair in zip(one.elements, other.elements, strict=True))
    return replace(more, sizes=_joined_sizes(one.sizes, other.sizes), content=None, elements=elements)


def _joined_sizes(
    one: Sequence[Size | None] | None, other: Sequence[Size | None] | None
) -> tuple[Size | None, ...] | None:
    if one is None or other is None or len(one) != len(other):
        return None
    return tuple(a if a == b else None for a, b in zip(one, other, strict=True))
