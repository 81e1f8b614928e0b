"""Inputs that are made up for answers to be compared on look like what models get."""

from __future__ import annotations

import numpy as np
import pytest
from real_models import V4_DET, V5_DET, V5_REC, need

from paddleinfer import Engine
from paddleinfer.engine.made_up_inputs import made_up
from paddleinfer.models.reader import TensorSpec, load_spec


def tensor(dtype: str, *shape: int) -> TensorSpec:
    return TensorSpec("x", None, dtype, shape)


@pytest.mark.parametrize(
    ("declared", "shape", "dark", "light"),
    [
        ((-1, 3, -1, -1), (2, 3, 640, 480), -2.0, 2.4),
        ((-1, 1, -1, -1), (1, 1, 64, 64), -2.0, 2.4),
        ((-1, 3, -1, -1), (1, 3, 32, 32), -2.0, 2.4),
        ((-1, 3, 48, -1), (2, 3, 48, 320), -1.0, 1.0),
    ],
)
def test_images_of_any_width_are_dark_strokes_on_light_ground(
    declared: tuple[int, ...], shape: tuple[int, ...], dark: float, light: float
) -> None:
    (page,) = made_up([tensor("float32", *declared)], [shape])
    assert page.shape == shape and page.dtype == np.float32
    strokes = page < (dark + light) / 2
    assert 0.02 < strokes.mean() < 0.4
    assert abs(page[strokes].mean() - dark) < 0.1 and abs(page[~strokes].mean() - light) < 0.1
    assert all(row.any() for row in strokes)
    if len(page) > 1:
        assert (strokes[0] != strokes[1]).any(), "all rows are the same page"


@pytest.mark.parametrize(
    ("dtype", "declared", "shape"),
    [
        ("float32", (-1, 16), (2, 16)),
        ("float32", (-1, 8, -1, -1), (1, 8, 20, 20)),
        ("float32", (-1, 3, 224, 224), (1, 3, 224, 224)),
        ("float32", (-1, 3, -1, -1), (1, 3, 7, 300)),
        ("float16", (-1, 4, -1), (1, 4, 33)),
        ("float32", (), ()),
    ],
)
def test_other_floats_have_values_of_both_signs(
    dtype: str, declared: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    (values,) = made_up([tensor(dtype, *declared)], [shape])
    assert values.shape == shape and values.dtype == dtype
    assert values.size == 1 or (values.min() < 0 < values.max())


def test_integers_are_zero_or_one_and_all_is_the_same_each_time() -> None:
    tensors = [tensor("int64", -1, 6), tensor("float32", -1, 3, -1, -1)]
    shapes = [(3, 6), (1, 3, 40, 40)]
    first, second = made_up(tensors, shapes), made_up(tensors, shapes)
    assert set(np.unique(first[0])) == {0, 1}
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.paddle3
@pytest.mark.parametrize("name", [V5_DET, V4_DET])
def test_a_detector_finds_text_on_them(name: str) -> None:
    model = need(name)
    inputs = made_up(load_spec(model).inputs, [(1, 3, 320, 320)])
    with Engine(model, instances=1, check=False) as engine:
        (found,) = engine.infer(inputs).values()
    assert found.max() > 0.9 and 0.05 < (found > 0.3).mean() < 0.6


@pytest.mark.paddle3
def test_a_recognizer_reads_signs_on_them() -> None:
    model = need(V5_REC)
    inputs = made_up(load_spec(model).inputs, [(1, 3, 48, 320)])
    with Engine(model, instances=1, check=False) as engine:
        (steps,) = engine.infer(inputs).values()
    assert len(np.unique(steps.argmax(-1))) > 3
