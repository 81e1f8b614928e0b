"""Which input or output of a program is the first, and which the next: its ``feed`` or ``fetch`` says so."""

from __future__ import annotations

from typing import Generic, TypeVar

from paddleinfer.models.spec import MOST_OPERATORS
from paddleinfer.sentences import shown

__all__ = ["ColumnError", "Columns"]

Entry = TypeVar("Entry")


class ColumnError(ValueError):
    """A column that no program has. Paddle takes it, unchecked, for an index of a list as long as it asks."""


class Columns(Generic[Entry]):
    """Inputs, or outputs, by their column. Paddle writes 0, 1 and so on, and runs what leaves some out."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._entries: dict[int, Entry] = {}

    def add(self, column: object, entry: Entry) -> None:
        """Raises ColumnError where the column is none, or taken."""
        if type(column) is not int or not 0 <= column < MOST_OPERATORS:
            raise ColumnError(
                f"an {self._kind} has the column {shown(column)}, and columns are whole numbers from 0 to "
                f"{MOST_OPERATORS - 1}"
            )
        if column in self._entries:
            raise ColumnError(f"two {self._kind}s have the column {column}")
        self._entries[column] = entry

    def in_order(self) -> tuple[Entry, ...]:
        """All of them."""
        return tuple(self._entries[column] for column in sorted(self._entries))
