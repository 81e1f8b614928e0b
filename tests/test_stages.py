"""The colours of stages can be told apart by everyone, and are readable on light and dark pages."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from paddleinfer.shim.http.page import page
from paddleinfer.stages import STAGE_COLOURS
from paddleinfer.tracing.drawing import draw

# What eyes of each kind make of linear red, green and blue (Machado, Oliveira and Fernandes, 2009).
EYES = {
    "usual": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}  # fmt: skip
# From linear RGB to Oklab, by way of the cube roots of cone responses (Ottosson, 2020).
CONES = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
LAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip
# Twice to three times what one can just tell apart side by side.
LEAST_DISTANCE = 0.055
INK = "#10161d"


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """As WCAG has it."""
    low, high = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("eyes", EYES)
def test_no_two_stages_look_alike(eyes: str) -> None:
    seen = {
        name: LAB @ np.cbrt(CONES @ np.clip(EYES[eyes] @ linear(colour), 0, 1))
        for name, colour in STAGE_COLOURS.items()
    }
    distances = {
        pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in itertools.combinations(seen, 2)
    }
    nearest = min(distances, key=lambda pair: distances[pair])
    assert distances[nearest] >= LEAST_DISTANCE, (nearest, distances[nearest])


@pytest.mark.parametrize("stage", STAGE_COLOURS)
def test_text_can_be_read_on_it_and_it_stands_out_from_a_page(stage: str) -> None:
    colour = STAGE_COLOURS[stage]
    assert contrast(colour, INK) >= 4.5
    assert contrast(colour, "#ffffff") >= 1.3 and contrast(colour, "#1a1f25") >= 3


def test_the_page_and_the_picture_have_the_same_colours(tmp_path: Path) -> None:
    text = bytes(page().body).decode()
    assert f"const STAGES = {json.dumps(STAGE_COLOURS)};" in text and INK in text
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("matplotlib.image")
    slices = [
        {"ph": "X", "name": name, "pid": 1, "tid": at, "ts": 0, "dur": 100}
        for at, name in enumerate(STAGE_COLOURS)
    ]
    draw(slices, tmp_path / "out.png")
    drawn = {
        tuple(pixel)
        for pixel in (image.imread(tmp_path / "out.png")[::4, ::40, :3] * 255)
        .round()
        .astype(int)
        .reshape(-1, 3)
    }
    for name, colour in STAGE_COLOURS.items():
        assert tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5)) in drawn, name
