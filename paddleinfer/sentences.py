"""Shows values from outside in our sentences: shortened, and with little work however large they are."""

from __future__ import annotations

import itertools
import re
import reprlib
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["MOST_CHARACTERS", "listed", "printable", "shortened", "shown"]

MOST_CHARACTERS: Final = 2048
"""The longest sentence that a client is sent."""

_MOST_OF_A_TEXT: Final = 200
_MOST_OF_A_VALUE: Final = 400
_MOST_BITS: Final = 1024
_MOST_NAMES: Final = 50
# Characters that a terminal or a log would act upon or begin a line at, and those that no encoding can write.
_NOT_PRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class _Shown(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxother = _MOST_OF_A_TEXT

    def repr_str(self, x: str, level: int) -> str:
        return _beginning(x)

    def repr_bytes(self, x: bytes, level: int) -> str:
        return _beginning(x)

    def repr_int(self, x: int, level: int) -> str:
        # The digits of a large integer take quadratic time.
        return repr(x) if x.bit_length() <= _MOST_BITS else f"an integer of {x.bit_length()} bits"

    def repr_dict(self, x: Mapping[Any, Any], level: int) -> str:
        # reprlib's own method sorts all keys.
        if level <= 0 and x:
            return "{...}"
        pairs = itertools.islice(x.items(), self.maxdict)
        parts = [f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}" for key, value in pairs]
        return f"{{{', '.join([*parts, *(['...'] if len(x) > self.maxdict else [])])}}}"


_shown = _Shown()


def _beginning(text: Any) -> str:
    return repr(text) if len(text) <= _MOST_OF_A_TEXT else f"{text[:_MOST_OF_A_TEXT]!r}..."


def shown(value: object) -> str:
    """Returns the ``repr`` of a value; of a long or deep one, the beginning."""
    text = _shown.repr(value)
    return text if len(text) <= _MOST_OF_A_VALUE else f"{text[:_MOST_OF_A_VALUE]}..."


def listed(names: Any) -> str:
    """Joins names with commas; of many names it keeps the first. Without names it returns "none"."""
    parts = list(itertools.islice(names, _MOST_NAMES + 1))
    return ", ".join([*parts[:_MOST_NAMES], *(["..."] if len(parts) > _MOST_NAMES else [])]) or "none"


def shortened(sentence: str) -> str:
    """Returns the sentence, or as much of it as a client is sent."""
    return sentence if len(sentence) <= MOST_CHARACTERS else f"{sentence[: MOST_CHARACTERS - 3]}..."


def printable(text: str) -> str:
    """Escapes such characters, as in ``\\x1b``: names and reports come from files and models."""
    return _NOT_PRINTED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
