"""Prints the results of sub-commands: aligned text, or one JSON document."""

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
    """Prints JSON that every reader accepts: null stands for a number that is not finite."""
    text = json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)
    # A file's name that is not UTF-8 has to be escaped.
    writable = not any("\ud800" <= letter <= "\udfff" for letter in text)
    print(text if writable else json.dumps(_plain(document), indent=2, allow_nan=False))


def keep_stdout_clean() -> None:
    """Redirects what native code writes to standard output to stderr, until the process ends.

    Paddle prints lines of its own there, and some leave the C library's buffer only at the very end.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):  # stdout or stderr is closed
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
    """Aligns rows of cells: each column is as wide as its widest cell, except the last."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
    return "\n".join(" " * indent + line for line in lines)


def shape_text(shape: Sequence[int] | None) -> str:
    """Writes a shape as ``--shape`` takes it: 1x3x224x224."""
    if shape is None:
        return "not said"
    return "x".join(map(str, shape)) if shape else "scalar"


def value_text(value: Any) -> str:
    """Writes an option's value for people."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
