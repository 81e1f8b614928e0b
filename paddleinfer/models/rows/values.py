"""What is known of a value inside a model: which of its axes is the batch, if any.

Sizes are products of the number of rows and of other free sizes, so that a reshape that folds the batch
axis together with another one can be followed, and one that unfolds it again, too.
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
        """The size, where it is known before a run."""
        if self.powers or self.factor.denominator != 1:
            return None
        return self.factor.numerator

    @property
    def has_rows(self) -> bool:
        """Whether it grows with the number of rows."""
        return bool(self.powers) and self.powers[0][0] == 0

    def times(self, other: Size, sign: int = 1) -> Size | None:
        """The product, or with `sign` -1 the quotient; None where it is not worth following."""
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
        """Whether the other is surely a multiple of it."""
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
    """A size that is known before a run."""
    return Size(Fraction(number))


def fresh_size() -> Size:
    """One that is not, and does not follow the rows."""
    return Size(Fraction(1), ((next(_fresh), 1),))


def product(sizes: Iterable[Size | None]) -> Size | None:
    """None where one is not known."""
    found: Size | None = ONE
    for size in sizes:
        if size is None or found is None:
            return None
        found = found.times(size)
    return found


class Kind(Enum):
    """What a value depends on."""

    CONSTANT = 1
    """On nothing that a caller sends, or on sizes beyond the rows, by which requests are sorted."""
    SIZES = 2
    """On the number of rows."""
    ROWS = 3
    """Its entries along one axis depend on one row of the inputs each."""
    UNKNOWN = 4
    """On the inputs, in a way that is not followed."""
    MIXED = 5
    """An entry depends on several rows, or on where its row stands, or the number of entries on the data."""


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
    """None where the number of axes is not known."""
    axis: int = 0
    """Of ROWS: the axis that holds them: `outer` times all rows, each of them `inner` times."""
    outer: Size = ONE
    inner: Size = ONE
    cause: Cause | None = None
    """Of MIXED and UNKNOWN: where it began; of ROWS: what moved or folded the axis last."""
    content: tuple[Size | None, ...] | None = None
    """The numbers in a small tensor of whole numbers, such as a shape."""
    elements: tuple[Value, ...] | None = None
    """Of a list of tensors."""
    follows_data: bool = False
    """Of MIXED: the sizes depend on the data, too."""
    certain: bool = True
    """Of SIZES: it is certainly the rows that it depends on."""

    @property
    def is_plain(self) -> bool:
        """Whether axis 0 is the batch and nothing else."""
        return self.axis == 0 and self.outer == ONE and self.inner == ONE

    @property
    def rank(self) -> int | None:
        """The number of axes."""
        return None if self.sizes is None else len(self.sizes)


def join(one: Value, other: Value) -> Value:
    """What is known of a value that is either."""
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
