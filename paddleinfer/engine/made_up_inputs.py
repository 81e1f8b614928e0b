"""Makes up inputs that look like pages, pictures or signals, for answers to be compared on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from paddleinfer import _ext
from paddleinfer.models.reader import TensorSpec

__all__ = ["BEYOND_FLOATS", "made_up", "with_large_integers"]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

BEYOND_FLOATS = 1 << 24
"""The least integer that has a neighbour which no float of 32 bits can be."""

_SEED = 3
# Surfaces of pictures are that wide, in pixels.
_PATCH = 8
_NOISE = 0.05
# Dark strokes and their light ground as models get them: by the means and deviations of ImageNet where both
# sides are free, as detectors have it, and from -1 to 1 for lines of one height.
_OF_PAGES = (-2.0, 2.4)
_OF_LINES = (-1.0, 1.0)
_CHANNELS = (1, 3)
_LEAST_SIDE = 8
_TEXT_HEIGHT = 20
_SPACE_SHARE = 0.15
_STROKE_SHARE = 0.6


def made_up(tensors: Sequence[TensorSpec], shapes: Sequence[Shape]) -> list[Array]:
    """Makes inputs of these shapes, always the same: text for images of any width; integers are 0 or 1.

    A detector's outputs are nearly zero where nothing looks like text, and then no difference shows.
    """
    random = np.random.default_rng(_SEED)
    made = []
    for tensor, shape in zip(tensors, shapes, strict=True):
        dtype = _ext.NUMPY_DTYPES[tensor.dtype]
        if not tensor.dtype.startswith(("float", "bfloat")):
            made.append(random.integers(0, 2, shape).astype(dtype))
            continue
        values = _text(random, tensor, shape) if _is_image(tensor, shape) else _surfaces(random, shape)
        made.append((values + _NOISE * random.standard_normal(shape)).astype(dtype))
    return made


def with_large_integers(
    tensors: Sequence[TensorSpec], arrays: Sequence[Array], names: Collection[str]
) -> list[Array]:
    """Returns the arrays, with integers of both signs beyond `BEYOND_FLOATS` in place of the named ones.

    They are odd, so that no float of 32 bits is equal, and of 27 bits, so that some can be added in 32.
    """
    random = np.random.default_rng(_SEED)
    changed = list(arrays)
    for place, (tensor, array) in enumerate(zip(tensors, arrays, strict=True)):
        if tensor.name in names:
            large = random.integers(BEYOND_FLOATS, 4 * BEYOND_FLOATS, array.shape) | 1
            changed[place] = (large * random.choice((-1, 1), array.shape)).astype(array.dtype)
    return changed


def _is_image(tensor: TensorSpec, shape: Shape) -> bool:
    declared = tensor.shape
    if declared is None or len(declared) != 4 or declared[1] not in _CHANNELS or declared[3] >= 0:
        return False
    return min(shape[2:]) >= _LEAST_SIDE


def _surfaces(random: np.random.Generator, shape: Shape) -> Array:
    coarse = (*shape[:2], *(-(-size // _PATCH) for size in shape[2:]))
    values: Array = random.standard_normal(coarse)
    for axis in range(2, len(shape)):
        values = np.repeat(values, _PATCH, axis=axis).take(range(shape[axis]), axis=axis)
    return values


def _text(random: np.random.Generator, tensor: TensorSpec, shape: Shape) -> Array:
    rows, channels, height, width = shape
    assert tensor.shape is not None
    dark, light = _OF_PAGES if tensor.shape[2] < 0 else _OF_LINES
    pages = np.full((rows, 1, height, width), light)
    size = min(_TEXT_HEIGHT, height // 2) if tensor.shape[2] < 0 else height * 2 // 3
    for page in pages[:, 0]:
        for top in range(max(1, size // 4), height - size + 1, 2 * size):
            for stroke in _strokes(random, top, size, width):
                page[stroke] = dark
    return np.repeat(pages, channels, axis=1)


def _strokes(random: np.random.Generator, top: int, size: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yields the strokes of a line of signs, each of some of seven strokes like the digits of a clock."""
    thick, wide = max(1, size // 7), max(2, size // 2)
    low, high = slice(top + size // 2, top + size), slice(top, top + size // 2)
    begin = size // 2
    for left in range(begin, width - wide, wide + max(1, size // 5)):
        if random.random() < _SPACE_SHARE and left > begin:
            continue
        whole, first = slice(left, left + wide), slice(left, left + thick)
        last = slice(left + wide - thick, left + wide)
        lines = [slice(at, at + thick) for at in (top, top + (size - thick) // 2, top + size - thick)]
        signs = [*((line, whole) for line in lines), (high, first), (low, first), (high, last), (low, last)]
        drawn = random.random(len(signs)) < _STROKE_SHARE
        yield from (sign for sign, wanted in zip(signs, drawn, strict=True) if wanted)
