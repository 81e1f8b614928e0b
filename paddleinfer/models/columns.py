"""Puts the inputs or outputs of a program in order, by the columns of its ``feed`` or ``fetch`` operators."""

from __future__ import annotations

from typing import Generic, TypeVar

from paddleinfer.models.spec import MOST_OPERATORS
from paddleinfer.sentences import shown

__all__ = ["ColumnError", "Columns"]

Entry = TypeVar("Entry")


class ColumnError(ValueError):
    """A program has an impossible column. Paddle would use it unchecked, and make a list that long."""


class Columns(Generic[Entry]):
    """Inputs, or outputs, by their column. Paddle writes 0, 1 and so on, but runs programs with gaps, too."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._entries: dict[int, Entry] = {}

    def add(self, column: object, entry: Entry) -> None:
        """Adds a tensor; raises ColumnError if the column is impossible or taken."""
        if type(column) is not int or not 0 <= column < MOST_OPERATORS:
            raise ColumnError(
                f"an {self._kind} has the column {shown(column)}, and columns are whole numbers from 0 to "
                f"{MOST_OPERATORS - 1}"
            )
        if column in self._entries:
            raise ColumnError(f"two {self._kind}s have the column {column}")
        self._entries[column] = entry

    def in_order(self) -> tuple[Entry, ...]:
        """Returns all of them, by column."""
        return tuple(self._entries[column] for column in sorted(self._entries))
