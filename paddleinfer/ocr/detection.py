"""A picture -> what ``det`` takes; what it gives -> boxes of lines of text.

It follows PaddleOCR's DBPostProcess with its usual settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from paddleinfer.ocr.rectangles import smallest_around, sums_along_rows
from paddleinfer.ocr.regions import regions_of

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["LONGEST_SIDE", "boxes_of", "det_input"]

Array = npt.NDArray[Any]

LONGEST_SIDE: Final = 960
"""Pixels, as PaddleOCR has it by default."""
_STRIDE: Final = 32
_MEAN, _DEVIATION = (np.array(three, np.float32) for three in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

_PIXEL_SCORE: Final = 0.3
_BOX_SCORE: Final = 0.6
_GROWTH: Final = 1.5
_SHORTEST_FOUND: Final = 3
_SHORTEST_GROWN: Final = 5
_SAME_ROW_PIXELS: Final = 10


def det_input(picture: Image, longest_side: int = LONGEST_SIDE) -> Array:
    """(1, 3, height, width) of float32, both sizes multiples of 32, of an RGB picture.

    A picture with a side of more than `longest_side` pixels is made smaller.
    """
    scale = min(1.0, longest_side / max(picture.size))
    width, height = (max(_STRIDE, round(side * scale / _STRIDE) * _STRIDE) for side in picture.size)
    # The models were trained on blue, green, red, with the means of red, green, blue.
    pixels = np.asarray(picture.resize((width, height)))[:, :, ::-1]
    return np.ascontiguousarray(((pixels / np.float32(255) - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None])


def boxes_of(scores: Array, size: tuple[int, int]) -> Array:
    """The boxes of lines, (lines, 4, 2) of float32: corners from top left clockwise, in the order of reading.

    Parameters
    ----------
    scores
        How sure ``det`` is of text at each pixel, (height, width).
    size
        Width and height of the picture, in whose pixels the boxes are.
    """
    scale = np.array(size) / scores.shape[::-1]
    sums = sums_along_rows(scores)
    boxes = []
    for points in regions_of(scores > _PIXEL_SCORE):
        found = smallest_around(points)
        if found.short_side < _SHORTEST_FOUND or found.mean_of(sums) < _BOX_SCORE:
            continue
        grown = found.grown(_GROWTH)
        if grown.short_side < _SHORTEST_GROWN:
            continue
        corners = np.clip(np.round(grown.corners() * scale), 0, size)
        if min(np.hypot(*(corners[0] - corners[1])), np.hypot(*(corners[0] - corners[3]))) > _SHORTEST_FOUND:
            boxes.append(corners)
    return _in_order(np.array(boxes, np.float32).reshape(-1, 4, 2))


def _in_order(boxes: Array) -> Array:
    """From top to bottom; those whose tops are nearly level, from left to right."""
    boxes = boxes[np.argsort(boxes[:, 0, 1], kind="stable")]
    row = np.cumsum(np.diff(boxes[:, 0, 1], prepend=boxes[:1, 0, 1]) >= _SAME_ROW_PIXELS)
    return boxes[np.lexsort((boxes[:, 0, 0], row))]
