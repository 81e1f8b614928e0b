"""Lines of text: cut out of a picture, as ``cls`` and ``rec`` take them, and what these give -> texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Line", "cls_input", "cut_line", "is_upside_down", "read_line", "rec_input"]

Array = npt.NDArray[Any]

_HEIGHT: Final = 48
_WIDTH_STEP: Final = 64
_MOST_WIDTH: Final = 3200
_CLS_WIDTH: Final = 192
_UPRIGHT_RATIO: Final = 1.5
_SURE_UPSIDE_DOWN: Final = 0.9


class Line(NamedTuple):
    """A line that was read."""

    text: str
    score: float
    """The mean of its characters', from 0 to 1."""
    box: Array
    """(4, 2) of float32, pixels of the picture: its corners from top left clockwise."""


def cut_line(picture: Image, box: Array) -> Array:
    """The pixels in a box (4, 2), turned level and 48 high: (48, width, 3) of uint8, red, green, blue.

    A box that is much higher than wide is taken for a line that runs downwards; ``cls`` sees those that rise.
    """
    from PIL import Image

    width, height = (float(np.hypot(*(box[0] - box[corner]))) for corner in (1, 3))
    if height >= _UPRIGHT_RATIO * width:
        box, width, height = np.roll(box, -1, axis=0), height, width
    wanted = min(_MOST_WIDTH, max(1, int(np.ceil(_HEIGHT * width / max(height, 1)))))
    top_left, top_right, bottom_right, bottom_left = box.tolist()
    quad = (*top_left, *bottom_left, *bottom_right, *top_right)
    resample = Image.Resampling.BICUBIC
    return np.asarray(picture.transform((wanted, _HEIGHT), Image.Transform.QUAD, quad, resample))


def rec_input(line: Array) -> Array:
    """(1, 3, 48, width) of float32; widths go in steps of 64, so that lines share runs."""
    return _normalised(line, -(-line.shape[1] // _WIDTH_STEP) * _WIDTH_STEP)


def cls_input(line: Array) -> Array:
    """(1, 3, 48, 192) of float32: the begin of a long line."""
    return _normalised(line[:, :_CLS_WIDTH], _CLS_WIDTH)


def _normalised(line: Array, width: int) -> Array:
    """From -1 to 1, as blue, green, red, with zeros behind."""
    padded = np.zeros((1, 3, _HEIGHT, width), np.float32)
    padded[0, :, :, : line.shape[1]] = (line[:, :, ::-1] / np.float32(127.5) - 1).transpose(2, 0, 1)
    return padded


def is_upside_down(probabilities: Array) -> bool:
    """Whether ``cls``, which gives (1, 2), is sure that the line has to be turned by 180 degrees."""
    return bool(probabilities[0, 1] > _SURE_UPSIDE_DOWN)


def read_line(steps: Array, characters: Sequence[str]) -> tuple[str, float]:
    """The text and its score, of what ``rec`` gives for one line: (steps, classes).

    Each step has its best class; repeats and blanks (class 0) are left out. ``characters[n]`` is class n + 1.
    """
    best = steps.argmax(-1)
    kept = np.flatnonzero((best != 0) & (np.diff(best, prepend=0) != 0))
    if not len(kept):
        return "", 0.0
    text = "".join(characters[number - 1] for number in best[kept].tolist())
    return text, float(steps[kept, best[kept]].mean())
