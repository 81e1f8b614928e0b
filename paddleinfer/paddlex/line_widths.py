"""The lines of a page, each run at its own width instead of that of the widest one in its batch."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

__all__ = ["run_at_own_widths", "width_bucket"]

STEP: Final = 64
"""Widths are rounded up to a multiple of it, in pixels, so that lines of many pages have few shapes."""
_LEAST: Final = 320
_BLANK: Final = 0  # the class of CTC that decodes to nothing


def width_bucket(width: int) -> int:
    """Returns the width that a line of this width runs at: a multiple of 64 pixels, at least 320."""
    return max(_LEAST, -(-width // STEP) * STEP)


def run_at_own_widths(engine: Any, lines: np.ndarray) -> np.ndarray:
    """Runs a padded batch of lines at their own widths, and joins the results.

    Parameters
    ----------
    engine
        A recognizer's, with one input (rows, channels, height, width) and one output (rows, steps, classes).
    lines
        Lines that are padded at the right with zeros, as PaddleX pads them. No pixel of a picture is zero.

    Returns
    -------
    np.ndarray
        (rows, steps, classes); the steps beyond a line's own are blanks.
    """
    widest = lines.shape[3]
    buckets: dict[int, list[int]] = {}
    for row, line in enumerate(lines):
        filled = np.flatnonzero(line.any(axis=(0, 1)))
        width = int(filled[-1]) + 1 if len(filled) else 1
        buckets.setdefault(min(width_bucket(width), widest), []).append(row)
    futures = {
        width: engine.submit([np.ascontiguousarray(lines[rows, :, :, :width])])
        for width, rows in buckets.items()
    }
    (name,) = (spec.name for spec in engine.outputs)
    parts = {width: future.result()[name] for width, future in futures.items()}
    steps = max(part.shape[1] for part in parts.values())
    classes = next(iter(parts.values())).shape[2]
    joined = np.zeros((len(lines), steps, classes), next(iter(parts.values())).dtype)
    for width, part in parts.items():
        rows = buckets[width]
        joined[rows, : part.shape[1]] = part
        joined[rows, part.shape[1] :, _BLANK] = 1
    return joined
