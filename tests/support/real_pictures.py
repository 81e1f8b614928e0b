"""Pages and lines of text as PaddleOCR's models take them, drawn with a seed; the text that rec answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Array = np.ndarray[Any, Any]

LINE_HEIGHT = 48
CLS_WIDTH = 192

_WORDS = ("amount", "balance", "carried", "date", "due", "from", "goods", "invoice", "number", "of", "total")


def words(seed: int, count: int) -> str:
    """Words and numbers, as an invoice has them."""
    drawn = random.Random(seed)
    return " ".join(
        drawn.choice(_WORDS) if drawn.random() < 0.8 else str(drawn.randrange(10, 9999)) for _ in range(count)
    )


def _drawn(width: int, height: int, lines: Sequence[str], size: int) -> Array:
    """Black on white, (height, width, 3) from 0 to 255."""
    image = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for number, text in enumerate(lines):
        draw.text((size // 3, size // 5 + number * size * 3 // 2), text, "black", font)
    return np.asarray(image)


def line(width: int, seed: int) -> Array:
    """One row for rec (or cls): a line of text that fills the width, 48 pixels high."""
    picture = _drawn(width, LINE_HEIGHT, [words(seed, 1 + width // 16)], 34)
    return _rows(picture / 127.5 - 1)


def page(height: int, width: int, seed: int, size: int = 20) -> Array:
    """One row for det: lines of text, `size` pixels high."""
    count = max(1, height // (2 * size))
    picture = _drawn(width, height, [words(seed * 100 + number, 3) for number in range(count)], size)
    return _rows((picture / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225))


def _rows(picture: Array) -> Array:
    return np.ascontiguousarray(picture.transpose(2, 0, 1)[None], dtype=np.float32)


def texts(steps: Array, characters: Sequence[str]) -> list[str]:
    """What a rec model read in each row: each step's best class, without repeats and blanks (class 0)."""
    best = steps.argmax(-1)
    kept = (best != 0) & np.diff(best, axis=1, prepend=0).astype(bool)
    return ["".join(characters[at - 1] for at in row[keep]) for row, keep in zip(best, kept, strict=True)]
