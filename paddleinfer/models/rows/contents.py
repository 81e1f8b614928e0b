"""Computes the numbers in shapes and other small tensors that do not depend on the inputs' data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import chain

from paddleinfer.models.rows.operators import Applied, NotKnownError
from paddleinfer.models.rows.values import ONE, Size, fresh_size, known, product

__all__ = ["Content", "content_of"]

Content = tuple[Size | None, ...]

_MOST_NUMBERS = 64


def content_of(op: Applied) -> Content | None:
    """Returns the numbers in the operator's result; None if they cannot be followed."""
    reader = _READERS.get(op.operation.kind)
    if reader is None:
        return None
    try:
        content = reader(op)
    except (NotKnownError, LookupError, TypeError, ValueError, ArithmeticError):
        return None
    return content if content is not None and len(content) <= _MOST_NUMBERS else None


def _full(op: Applied) -> Content | None:
    numbers = op.attributes.get("value")
    text = op.attributes.get("str_value")  # a legacy program may store the number as text
    number = float(text) if text else numbers
    (count,) = [product(known(size) for size in op.integers("shape"))]
    if not isinstance(number, (int, float)) or int(number) != number or count is None:
        return None
    length = count.number
    return (known(int(number)),) * length if length is not None and length <= _MOST_NUMBERS else None


def _listed(op: Applied) -> Content | None:
    for name in ("value", "values", "int32_values", "int64_values"):
        numbers = op.attributes.get(name)
        if isinstance(numbers, list) and numbers:
            return tuple(known(int(number)) for number in numbers) if len(numbers) <= _MOST_NUMBERS else None
    return ()


def _same(op: Applied) -> Content | None:
    return op.tensor().content


def _joined(op: Applied) -> Content | None:
    contents = [value.content for value in op.tensors("axis")]
    return None if None in contents else tuple(chain.from_iterable(content or () for content in contents))


def _cut(op: Applied) -> Content | None:
    content = op.tensor().content
    if content is None or op.axes("axes", 1) != [0]:
        return None
    (start,), (end,) = op.integers("starts"), op.integers("ends")
    return content[start:end]


def _chosen(op: Applied) -> Content | None:
    content, index = op.tensor().content, op.tensor("index").content
    if content is None or index is None:
        return None
    places = [size.number for size in index if size is not None]
    return tuple(content[place] for place in places if place is not None) if None not in places else None


def _scaled(op: Applied) -> Content | None:
    content = op.tensor().content
    if content is None:
        return None
    factor, bias = op.sizes_of("scale"), op.attributes.get("bias", 0)
    if op.given("scale") and factor is not None and not bias and len(factor) == 1:
        return tuple(_combined([size, factor[0]], Size.times) for size in content)
    if op.given("scale") and factor is not None and factor == [ONE] and int(bias) == bias:
        return tuple(_combined([size, known(int(bias))], _plus) for size in content)
    # A legacy operator's factor is a float, which is not read here.
    return tuple(_combined([size], None) for size in content)


def _product(op: Applied) -> Content | None:
    content = op.tensor().content
    return None if content is None else (product(content),)


def _pairwise(exact: Callable[[Size, Size], Size | None] | None) -> Callable[[Applied], Content | None]:
    def read(op: Applied) -> Content | None:
        one, other = (value.content for value in op.tensors())
        if one is None or other is None or len({1, len(one), len(other)}) > 2:
            return None
        count = max(len(one), len(other))
        pairs = zip(
            one * (count if len(one) == 1 else 1), other * (count if len(other) == 1 else 1), strict=True
        )
        return tuple(_combined(pair, exact) for pair in pairs)

    return read


def _combined(sizes: Sequence[Size | None], exact: Callable[[Size, Size], Size | None] | None) -> Size | None:
    """Returns the exact result if there is one; else an unknown size, if no argument follows the rows."""
    known_sizes = [size for size in sizes if size is not None]
    if len(known_sizes) < len(sizes):
        return None
    found = exact(known_sizes[0], known_sizes[-1]) if exact is not None else None
    if found is None and not any(size.has_rows for size in known_sizes):
        return fresh_size()
    return found


def _plus(one: Size, other: Size) -> Size | None:
    if one.number is not None and other.number is not None:
        return known(one.number + other.number)
    if one.powers == other.powers:
        return Size(one.factor + other.factor, one.powers)
    return one if not other.factor else other if not one.factor else None


def _minus(one: Size, other: Size) -> Size | None:
    return _plus(one, Size(-other.factor, other.powers))


def _quotient(one: Size, other: Size) -> Size | None:
    """Divides, if the quotient is whole."""
    found = one.over(other)
    return found if found is not None and (found.factor.denominator == 1 or found.powers) else None


def _floor(one: Size, other: Size) -> Size | None:
    if one.number is not None and other.number:
        return Size(Fraction(one.number // other.number))
    return _quotient(one, other) if other.divides(one) else None


_READERS: dict[str, Callable[[Applied], Content | None]] = {
    **dict.fromkeys(("full", "fill_constant"), _full),
    **dict.fromkeys(("full_int_array", "assign_value"), _listed),
    **dict.fromkeys(("assign", "cast", "expand", "flatten", "memcpy_h2d", "memcpy_d2h"), _same),
    **dict.fromkeys(("reshape", "share_data", "squeeze", "unsqueeze", "copy_to"), _same),
    **dict.fromkeys(("concat", "stack"), _joined),
    **dict.fromkeys(("gather", "index_select"), _chosen),
    "add": _pairwise(_plus),
    "divide": _pairwise(_quotient),
    "floor_divide": _pairwise(_floor),
    "multiply": _pairwise(Size.times),
    "prod": _product,
    "remainder": _pairwise(None),
    "scale": _scaled,
    "slice": _cut,
    "subtract": _pairwise(_minus),
}
