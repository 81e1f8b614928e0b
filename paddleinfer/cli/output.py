"""What sub-commands print: aligned text, or one JSON document."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["as_columns", "keep_stdout_clean", "print_document", "shape_text", "value_text"]


def print_document(document: Mapping[str, Any]) -> None:
    """JSON that every reader takes: null where a number is not finite."""
    text = json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)
    # A file's name that is not UTF-8 can only be escaped.
    writable = not any("\ud800" <= letter <= "\udfff" for letter in text)
    print(text if writable else json.dumps(_plain(document), indent=2, allow_nan=False))


def keep_stdout_clean() -> None:
    """Sends to stderr what native code writes to standard output, from now until the process ends.

    Paddle prints lines of its own there, and some only leave the C library's buffer at the very end.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):  # one of the two is closed
        sys.stdout.flush()
        own = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        sys.stdout = open(own, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)  # noqa: SIM115


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inside) for name, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inside) for inside in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def as_columns(rows: Sequence[Sequence[str]], indent: int = 2) -> str:
    """Rows of cells, each column as wide as its widest cell; the last one is left as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    return "\n".join(" " * indent + line for line in lines)


def shape_text(shape: Sequence[int] | None) -> str:
    """A shape as ``--shape`` takes it: 1x3x224x224."""
    if shape is None:
        return "not said"
    return "x".join(map(str, shape)) if shape else "scalar"


def value_text(value: Any) -> str:
    """An option's value as a person reads it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
