"""Lines at their own widths: what each answers is what it answers alone, and the rest is blank."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from paddlex_double import PaddleXDouble

from paddleinfer import Engine

CLASSES = 5


@pytest.fixture
def line_widths() -> Iterator[Any]:
    with PaddleXDouble().installed():
        yield importlib.import_module("paddleinfer.paddlex.line_widths")


def steps_of(lines: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One step for 8 pixels, whose class 1 has their mean."""
    means = lines.mean(axis=(1, 2)).reshape(len(lines), -1, 8).mean(axis=2)
    steps = np.zeros((*means.shape, CLASSES), np.float32)
    steps[:, :, 1] = means
    return steps


def padded(*widths: int) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(2)
    lines = np.zeros((len(widths), 3, 4, max(widths)), np.float32)
    for line, width in zip(lines, widths, strict=True):
        line[:, :, :width] = random.uniform(0.1, 1, (3, 4, width))
    return lines


def test_widths_are_rounded_up_to_multiples_of_64_and_at_least_320(line_widths: Any) -> None:
    assert [line_widths.width_bucket(width) for width in (1, 320, 321, 384, 385)] == [320, 320, 384, 384, 448]


def test_each_line_runs_at_its_own_width_and_the_steps_beyond_are_blank(line_widths: Any) -> None:
    lines, seen = padded(330, 200, 720, 340), []

    def model(inputs: dict[str, Any]) -> Any:
        seen.append(inputs["x"].shape)
        return steps_of(inputs["x"])

    with Engine.from_callable(
        model, {"x": ("float32", (-1, 3, 4, -1))}, {"steps": ("float32", (-1, -1, CLASSES))}
    ) as engine:
        joined = line_widths.run_at_own_widths(engine, lines)
    assert sorted(seen) == [(1, 3, 4, 320), (1, 3, 4, 720), (2, 3, 4, 384)]
    assert joined.shape == (4, 90, CLASSES)
    for row, width in enumerate((384, 320, 720, 384)):
        alone = steps_of(lines[row : row + 1, ..., :width])[0, :, 1]
        np.testing.assert_allclose(joined[row, : width // 8, 1], alone)
        assert (joined[row, width // 8 :, 0] == 1).all() and (joined[row, width // 8 :, 1] == 0).all()


def test_an_empty_line_runs_at_the_least_width(line_widths: Any) -> None:
    with Engine.from_callable(
        lambda inputs: steps_of(inputs["x"]),
        {"x": ("float32", (-1, 3, 4, -1))},
        {"steps": ("float32", (-1, -1, CLASSES))},
    ) as engine:
        joined = line_widths.run_at_own_widths(engine, np.zeros((1, 3, 4, 400), np.float32))
    assert joined.shape == (1, 40, CLASSES)
