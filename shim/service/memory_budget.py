"""Says which models give way to others: the least recently used ones."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from typing import Generic, TypeVar

__all__ = ["MemoryBudget"]

Key = TypeVar("Key", bound=Hashable)


class MemoryBudget(Generic[Key]):
    """Counts the bytes of what is loaded, and the order of its use. It reads no clock and loads nothing.

    Parameters
    ----------
    limit_bytes
        The bytes of all that is loaded, which its caller keeps by asking ``victims`` before each load.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.loaded_bytes = 0
        """The sum of all sizes."""
        self.peak_bytes = 0
        """The most that it has been."""
        self._sizes: dict[Key, int] = {}  # the least recently used first

    def __iter__(self) -> Iterator[Key]:
        """The least recently used first."""
        return iter(self._sizes)

    def __contains__(self, key: Key) -> bool:
        return key in self._sizes

    def size(self, key: Key) -> int:
        """Returns the bytes of a key; 0 where it is not loaded."""
        return self._sizes.get(key, 0)

    def count(self, key: Key, size_bytes: int) -> None:
        """Counts a key with this size from now on; one that is new is the most recently used."""
        self.loaded_bytes += size_bytes - self._sizes.get(key, 0)
        self._sizes[key] = size_bytes
        self.peak_bytes = max(self.peak_bytes, self.loaded_bytes)

    def discard(self, key: Key) -> None:
        """Counts a key no longer."""
        self.loaded_bytes -= self._sizes.pop(key, 0)

    def use(self, key: Key) -> None:
        """Makes a key the most recently used; does nothing where it is not loaded."""
        size_bytes = self._sizes.pop(key, None)
        if size_bytes is not None:
            self._sizes[key] = size_bytes

    def lacking_bytes(self, more_bytes: int) -> int:
        """Returns by how much the limit would be exceeded with so many more."""
        return max(0, self.loaded_bytes + more_bytes - self.limit_bytes)

    def most_bytes(self, kept: Collection[Key]) -> int:
        """Returns how much there would be room for beside these keys alone."""
        return self.limit_bytes - sum(self.size(key) for key in kept)

    def victims(self, more_bytes: int, kept: Collection[Key], busy: Collection[Key]) -> list[Key] | None:
        """Returns which keys make room for so many more bytes; None where all of them would not do.

        The least recently used come first, those in use after all others, and none that is not needed.
        `kept` are no victims.
        """
        lacking = self.lacking_bytes(more_bytes)
        idle_first = sorted((key for key in self._sizes if key not in kept), key=lambda key: key in busy)
        chosen: list[Key] = []
        freed = 0
        for key in idle_first:
            if freed >= lacking:
                break
            chosen.append(key)
            freed += self._sizes[key]
        if freed < lacking:
            return None
        for key in reversed(chosen[:]):  # a large one may have made smaller ones before it superfluous
            if freed - self._sizes[key] >= lacking:
                chosen.remove(key)
                freed -= self._sizes[key]
        return chosen
