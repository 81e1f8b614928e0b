"""From det's map to boxes: connected regions, the smallest rectangles around them, and their order."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddleinfer.ocr.detection import boxes_of, det_input
from paddleinfer.ocr.rectangles import smallest_around, sums_along_rows
from paddleinfer.ocr.regions import MOST_REGIONS, regions_of

Image = pytest.importorskip("PIL.Image")

MASKS = st.integers(1, 12).flatmap(
    lambda width: st.lists(
        st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=12
    ).map(np.array)
)


def flooded(mask: Any) -> list[set[tuple[int, int]]]:
    """The regions, pixel by pixel."""
    left = {(int(x), int(y)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        region, edge = set(), [min(left, key=lambda place: (place[1], place[0]))]
        while edge:
            x, y = edge.pop()
            if (x, y) in left:
                left.remove((x, y))
                region.add((x, y))
                edge += [(x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
        found.append(region)
    return found


def ends_of_rows(region: set[tuple[int, int]]) -> set[tuple[int, int]]:
    rows = {row: [x for x, y in region if y == row] for _, row in region}
    return {(edge(xs), row) for row, xs in rows.items() for edge in (min, max)}


@given(MASKS)
def test_regions_are_what_touches_at_a_side_or_a_corner(mask: Any) -> None:
    found = [{tuple(point) for point in outline.tolist()} for outline in regions_of(mask)]
    assert sorted(found, key=min) == sorted(map(ends_of_rows, flooded(mask)), key=min)


def test_a_spiral_is_one_region_and_a_lattice_many() -> None:
    spiral = np.ones((61, 61), bool)
    for ring in range(1, 29, 2):
        spiral[ring, ring : 61 - ring] = spiral[ring : 61 - ring, 60 - ring] = False
        spiral[60 - ring, ring : 61 - ring] = spiral[ring + 2 : 61 - ring, ring] = False
    assert len(regions_of(spiral)) == len(flooded(spiral))
    lattice = np.zeros((200, 200), bool)
    lattice[::2, ::2] = True
    lattice[0:2, 0:2] = True
    regions = regions_of(lattice)
    assert len(regions) == MOST_REGIONS and len(regions[0]) > 2  # the largest is kept


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=20).map(
        lambda points: np.array(sorted(points, key=lambda point: point[1]))
    )
)
def test_the_rectangle_is_around_all_points_and_no_turned_one_is_smaller(points: Any) -> None:
    rectangle = smallest_around(points)
    inside = np.abs((points - rectangle.centre) @ rectangle.axes.T) - rectangle.sizes / 2
    assert inside.max() < 1e-6
    np.testing.assert_allclose(rectangle.axes @ rectangle.axes.T, np.eye(2), atol=1e-9)
    for angle in np.linspace(0, np.pi / 2, 60):
        turned = points @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        assert rectangle.sizes.prod() <= np.ptp(turned, axis=0).prod() + 1e-6


@given(
    st.lists(st.tuples(st.integers(-5, 35), st.integers(-5, 35)), min_size=1, max_size=12),
    st.floats(0, 1.5),
    st.integers(0, 1 << 32),
)
def test_the_mean_of_a_rectangle_is_that_of_the_pixels_inside(
    points: list[tuple[int, int]], growth: float, seed: int
) -> None:
    found = smallest_around(np.array(points))
    rectangle = found.grown(growth) if found.short_side else found
    values = np.random.default_rng(seed).random((25, 31), np.float32)
    y, x = np.mgrid[:25, :31]
    places = (np.stack([x, y], -1) - rectangle.centre) @ rectangle.axes.T
    inside = (np.abs(places) <= rectangle.sizes / 2 + 1e-6).all(-1)
    expected = values[inside].mean() if inside.any() else 0.0
    assert rectangle.mean_of(sums_along_rows(values)) == pytest.approx(expected, rel=1e-5)


def test_the_means_of_many_long_rectangles_take_no_array_of_the_map_each() -> None:
    y, x = np.mgrid[:512, :512]
    scores = np.where((x + y) % 9 < 6, np.float32(0.9), np.float32(0))
    tracemalloc.start()
    try:
        boxes = boxes_of(scores, (512, 512))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(boxes) > 100
    assert peak_bytes < 40 * scores.size  # the places of its pixels take 16 bytes each, more than once


@pytest.mark.parametrize("angle", [0, 10, 45, -30, 90])
def test_a_box_is_found_where_it_was_drawn_larger_by_its_margin(angle: float) -> None:
    turn = np.deg2rad(angle)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    y, x = np.mgrid[:256, :320]
    places = (np.stack([x, y], -1) - (160, 128)) @ axes.T
    scores = np.where((np.abs(places) <= (80, 10)).all(-1), np.float32(0.9), np.float32(0.01))
    (box,) = boxes_of(scores, (640, 512))
    sides = sorted(np.hypot(*(box[0] - box[at])) for at in (1, 3))
    margin = 160 * 20 * 1.5 / (2 * (160 + 20))
    np.testing.assert_allclose(sides, [2 * (20 + 2 * margin), 2 * (160 + 2 * margin)], atol=6)
    np.testing.assert_allclose(box.mean(0), (320, 256), atol=2)
    top_left, top_right, bottom_right, bottom_left = box
    assert top_left[0] < top_right[0] and bottom_left[0] < bottom_right[0]
    assert top_left[1] < bottom_left[1] and top_right[1] < bottom_right[1]


def test_what_is_small_or_unsure_is_no_box() -> None:
    scores = np.zeros((64, 64), np.float32)
    scores[10:12, 10:12] = 1  # small
    scores[30:40, 5:50] = 0.5  # unsure
    assert boxes_of(scores, (64, 64)).shape == (0, 4, 2)
    scores[30:40, 5:50] = 0.7
    assert boxes_of(scores, (64, 64)).shape == (1, 4, 2)


def test_boxes_are_in_the_order_of_reading_and_inside_the_picture() -> None:
    scores = np.zeros((128, 128), np.float32)
    for left, top in ((70, 1), (0, 4), (60, 60), (2, 100)):
        scores[top : top + 12, left : left + 50] = 0.9
    boxes = boxes_of(scores, (128, 128))
    assert [int(box[0, 0]) // 30 for box in boxes] == [0, 2, 1, 0]
    assert boxes.min() >= 0 and boxes.max() <= 128 and boxes.dtype == np.float32


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((1, 1), (32, 32)),
        ((640, 480), (480, 640)),
        ((641, 479), (480, 640)),
        ((10_000, 10), (32, 960)),
        ((1920, 1080), (544, 960)),
    ],
)
def test_det_gets_sizes_that_it_divides_and_no_more_than_960(
    size: tuple[int, int], shape: tuple[int, int]
) -> None:
    x = det_input(Image.new("RGB", size, (255, 0, 0)))
    assert x.shape == (1, 3, *shape) and x.dtype == np.float32 and x.flags.c_contiguous
    # Red is the last of the three, with the last of the means.
    np.testing.assert_allclose(x[0, :, 0, 0], [-0.485 / 0.229, -0.456 / 0.224, 0.594 / 0.225], rtol=1e-5)
