"""A small reader of pages as a service: PP-OCR's det, rows of text cut out, PP-OCR's rec."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from real_pictures import LINE_HEIGHT, texts

from paddleinfer.serve import Request, Service

Array = np.ndarray[Any, Any]

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SURE = 0.3
SLACK = 4


def det_input(pixels: Array) -> Array:
    """Of uint8 (height, width, 3), whose sizes are multiples of 32."""
    return np.ascontiguousarray(((pixels / 255 - MEAN) / DEVIATION).transpose(2, 0, 1)[None], "float32")


def bands(scores: Array) -> list[tuple[int, int]]:
    """From and to which row each line of text goes, of det's map (height, width)."""
    rows = np.concatenate(([False], (scores > SURE).any(axis=1), [False])).astype(int)
    begins, ends = np.flatnonzero(np.diff(rows) == 1), np.flatnonzero(np.diff(rows) == -1)
    height = scores.shape[0]
    return [
        (max(0, int(begin) - SLACK), min(height, int(end) + SLACK))
        for begin, end in zip(begins, ends, strict=True)
    ]


def rec_input(picture: Any, band: tuple[int, int]) -> Array:
    """A line of a picture as rec takes it."""
    begin, end = band
    width = max(16, round(picture.width * LINE_HEIGHT / (end - begin)))
    line = picture.crop((0, begin, picture.width, end)).resize((width, LINE_HEIGHT))
    return np.ascontiguousarray((np.asarray(line) / 127.5 - 1).transpose(2, 0, 1)[None], "float32")


class Ocr(Service):
    """A page in, its lines out."""

    def __init__(self, characters: Sequence[str], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._characters = characters

    async def handle(self, request: Request) -> Any:
        picture = request.image()
        (scores,) = (await self.engines.det.ainfer([det_input(np.asarray(picture))])).values()
        lines = [rec_input(picture, band) for band in bands(scores[0, 0])]
        read = await asyncio.gather(*(self.engines.rec.ainfer([line]) for line in lines))
        return {
            "lines": [text for (steps,) in map(dict.values, read) for text in texts(steps, self._characters)]
        }
