"""Tells when something that may be half written has stayed the same for long enough."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

__all__ = ["Settled"]

Value = TypeVar("Value")

# A copy over a slow line pauses; after a pause this long it counts as complete.
_STILL_S: Final = 1.0


class Settled(Generic[Value]):
    """A value that is looked at again and again, such as the states of files."""

    def __init__(self, value: Value, now_s: float) -> None:
        self._value = value
        self._since_s = now_s

    def look(self, value: Value, now_s: float) -> bool:
        """Tells whether it is the same as at the last look, and has been for a second."""
        if value != self._value:
            self._value, self._since_s = value, now_s
            return False
        return now_s - self._since_s >= _STILL_S
