"""Wraps an operator with what is known of its arguments, for the rules that derive its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from paddleinfer.models.graph import Key, Operation, TensorType
from paddleinfer.models.rows.values import ROWS, Cause, Kind, Size, Value, fresh_size, known, product

__all__ = ["FOLLOWS", "MIXES", "Applied", "NotKnownError", "of_type"]

FOLLOWS = "which gives as many entries as the data of all rows ask for"
MIXES = "which computes over the rows of the whole batch"


class NotKnownError(Exception):
    """A rule needs something that the program does not say."""


class Applied:
    """An operator at one place of the program."""

    def __init__(self, operation: Operation, known_values: Mapping[Key, Value]) -> None:
        self.operation = operation
        self.attributes = operation.attributes
        self._values = known_values

    # Arguments

    def tensors(self, *left_out: str) -> list[Value]:
        """Returns all argument tensors, those of lists one by one, except for the named arguments."""
        return [
            value
            for name in self.operation.arguments
            if name not in left_out
            for value in self.tensors_of(name)
        ]

    def tensors_of(self, name: str) -> list[Value]:
        """Returns the tensors of one argument; an empty list if it was not given."""
        found: list[Value] = []
        for key in self.operation.arguments.get(name, ()):
            value = self._values.get(key, Value(Kind.UNKNOWN, cause=Cause(self.operation.name, "")))
            found.extend(value.elements if value.elements is not None else (value,))
        return found

    def given(self, name: str) -> bool:
        """Tells whether this argument was given."""
        return name in self.operation.arguments

    def tensor(self, name: str = "x") -> Value:
        """Returns the single tensor of an argument."""
        found = self.tensors_of(name)
        if len(found) != 1:
            raise NotKnownError
        return found[0]

    def rank(self, value: Value) -> int:
        """Returns the number of a value's axes."""
        if value.rank is None:
            raise NotKnownError
        return value.rank

    # Attributes, some of which may be given as arguments

    def sizes_of(self, name: str) -> list[Size | None] | None:
        """Returns the numbers of an attribute, or of an argument in its place; None if there is neither."""
        attribute = self.attributes.get(name)
        numbers = [attribute] if isinstance(attribute, (int, float)) else attribute
        if not isinstance(numbers, (list, tuple)):
            numbers = None
        if self.given(name):
            contents = [value.content for value in self.tensors_of(name)]
            if None not in contents:
                return [size for content in contents if content is not None for size in content]
            # A legacy operator repeats the known numbers in the attribute, with -1 for the others.
            if not numbers:
                raise NotKnownError
            return [None if number == -1 else known(number) for number in numbers]
        return None if numbers is None else [known(int(number)) for number in numbers]

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """Returns the known numbers of an attribute, or of an argument in its place."""
        sizes = self.sizes_of(name)
        if sizes is None:
            if default is None:
                raise NotKnownError
            return list(default)
        numbers = [size.number if size is not None else None for size in sizes]
        if None in numbers:
            raise NotKnownError
        return [number for number in numbers if number is not None]

    def integer(self, name: str, default: int | None = None) -> int:
        """Returns one such number."""
        numbers = self.integers(name, None if default is None else [default])
        if len(numbers) != 1:
            raise NotKnownError
        return numbers[0]

    def flag(self, name: str, default: bool = False) -> bool:
        """Returns an attribute that is true or false."""
        return bool(self.attributes.get(name, default))

    def axes(self, name: str, rank: int, default: Sequence[int] | None = None) -> list[int]:
        """Returns axes, counted from the front."""
        return [axis + rank if axis < 0 else axis for axis in self.integers(name, default)]

    # Results

    def mixed(self, why: str = MIXES, follows_data: bool = False) -> Value:
        """Returns a result that depends on several rows."""
        return Value(Kind.MIXED, cause=Cause(self.operation.name, why), follows_data=follows_data)

    def unknown(self) -> Value:
        """Returns a result that cannot be followed."""
        return Value(Kind.UNKNOWN, cause=Cause(self.operation.name, ""))

    def moved(
        self,
        value: Value,
        axis: int,
        outer: Size | None = None,
        inner: Size | None = None,
        sizes: Sequence[Size | None] | None = None,
    ) -> Value:
        """Returns a value's rows on another axis, or folded in another way."""
        outer = value.outer if outer is None else outer
        inner = value.inner if inner is None else inner
        same = (axis, outer, inner) == (value.axis, value.outer, value.inner)
        cause = value.cause if same else Cause(self.operation.name, "")
        return Value(Kind.ROWS, None if sizes is None else tuple(sizes), axis, outer, inner, cause)


def of_type(value: Value, kind: TensorType) -> Value:
    """Returns a result with the sizes that the program declares for it."""
    shape = kind.shape
    if value.kind is not Kind.ROWS:
        if shape is None or value.sizes is not None:
            return value
        return replace(value, sizes=tuple(None if size < 0 else known(size) for size in shape))
    if shape is None or not 0 <= value.axis < len(shape):
        return Value(Kind.UNKNOWN, cause=value.cause)
    found = value.sizes if value.rank == len(shape) else None
    sizes: list[Size | None] = []
    for axis, size in enumerate(shape):
        if axis == value.axis:
            sizes.append(product((ROWS, value.outer, value.inner)))
        elif size >= 0:
            sizes.append(known(size))
        else:
            sizes.append((found[axis] if found else None) or fresh_size())
    return replace(value, sizes=tuple(sizes))
