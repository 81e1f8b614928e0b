"""Draws pages of text with a seed, as arrays that PaddleOCR takes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["drawn_pages"]

SEED = 18
_VOCABULARY = (
    "tuple account amount balance before carried commission contract credit customer date delivery "
    "deposit discount due freight from goods insurance interest invoice item letter market "
    "net number order paid payment price quantity receipt reference remittance shipped statement "
    "tax terms total unit until value week yearly"
)
_WORDS = _VOCABULARY.split()
_LETTERS = (18, 30)


def drawn_pages(
    count: int,
    seed: int = SEED,
    *,
    widths: tuple[int, int] = (640, 960),
    heights: tuple[int, int] = (480, 800),
) -> list[np.ndarray[Any, Any]]:
    """Draws pages of several sizes, each with lines of different lengths in one size of letters.

    Parameters
    ----------
    count
        How many pages.
    seed
        The same seed gives the same pages; the first of more are those of fewer.
    widths, heights
        The least and the largest, in pixels; what is between comes in steps of 32.

    Returns
    -------
    list
        uint8 arrays (height, width, 3) in the order blue, green, red.
    """
    drawn = random.Random(seed)
    return [_page(drawn, widths, heights) for _ in range(count)]


def _page(drawn: random.Random, widths: tuple[int, int], heights: tuple[int, int]) -> np.ndarray[Any, Any]:
    width = drawn.randrange(widths[0], widths[1] + 1, 32)
    height = drawn.randrange(heights[0], heights[1] + 1, 32)
    letters = drawn.randint(*_LETTERS)
    page = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(letters)
    for top in range(letters, height - 2 * letters, 2 * letters):
        text = _line(drawn)
        while pen.textlength(text, font) > width - 3 * letters:
            text = text.rpartition(" ")[0]
        pen.text((letters, top), text, "black", font)
    return np.ascontiguousarray(np.asarray(page)[:, :, ::-1])


def _line(drawn: random.Random) -> str:
    words = [drawn.choice(_WORDS) for _ in range(drawn.randint(2, 9))]
    words.insert(drawn.randint(1, len(words)), f"{drawn.randint(1, 99_999):,}.{drawn.randint(0, 99):02}")
    return " ".join(words)
