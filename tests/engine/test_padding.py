"""Requests of different lengths that share batches."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from engine_helpers import Arrays

import paddleinfer
from paddleinfer import PadAxis


def masked_means(inputs: Arrays) -> Arrays:
    """Doubles every number, and averages those that the mask lets through."""
    x, mask = inputs["x"], inputs["mask"]
    return {"twice": x * 2, "mean": (x * mask).sum(axis=1) / mask.sum(axis=1)}


def engine_of(pad: Any, **options: Any) -> paddleinfer.Engine:
    return paddleinfer.Engine.from_callable(
        masked_means,
        {"x": ("float32", (-1, -1)), "mask": ("float32", (-1, -1))},
        ["twice", "mean"],
        pad=pad,
        **options,
    )


PAD = PadAxis(inputs={"x": 1}, mask="mask", outputs={"twice": 1}, multiple=8)


def row(length: int) -> np.ndarray:
    return np.arange(1, length + 1, dtype="float32")[None]


@pytest.mark.parametrize("length", [1, 7, 8, 9, 30])
def test_results_are_those_of_the_request_without_padding(length: int) -> None:
    with engine_of(PAD) as engine:
        results = engine.infer({"x": row(length)})
    np.testing.assert_array_equal(results["twice"], row(length) * 2)
    np.testing.assert_allclose(results["mean"], [row(length).mean()], rtol=1e-6)
    assert results["twice"].flags.writeable and results["twice"].base is None


def test_an_empty_length_is_left_as_it_is() -> None:
    pad = PadAxis(inputs={"x": 1}, outputs={"twice": 1}, multiple=8)
    with paddleinfer.Engine.from_callable(
        lambda inputs: {"twice": inputs["x"] * 2}, {"x": ("float32", (-1, -1))}, ["twice"], pad=pad
    ) as engine:
        assert engine.infer({"x": np.zeros((2, 0), "float32")})["twice"].shape == (2, 0)


def test_different_lengths_share_a_batch() -> None:
    shapes = []

    def recorded(inputs: Arrays) -> Arrays:
        shapes.append(inputs["x"].shape)
        return masked_means(inputs)

    with paddleinfer.Engine.from_callable(
        recorded,
        {"x": ("float32", (-1, -1)), "mask": ("float32", (-1, -1))},
        ["twice", "mean"],
        pad=PAD,
        batchable=True,
    ) as engine:

        async def ask() -> list[dict[str, np.ndarray]]:
            return await asyncio.gather(*(engine.ainfer({"x": row(length)}) for length in range(1, 9)))

        for _ in range(6):  # sizes double from one
            answers = asyncio.run(ask())
    assert all(shape[1] == 8 for shape in shapes)
    assert max(shape[0] for shape in shapes) > 1
    for length, results in enumerate(answers, 1):
        np.testing.assert_array_equal(results["twice"], row(length) * 2)


def test_every_way_of_calling_crops() -> None:
    with engine_of([PAD]) as engine:
        feeds = {"x": row(5)}
        async_results, info = asyncio.run(engine.ainfer(feeds, return_info=True))
        future = engine.submit(feeds)
        answers = [async_results, future.result(), *engine.infer_many([feeds])]
        for results in answers:
            np.testing.assert_array_equal(results["twice"], row(5) * 2)
        assert info.padded_share == pytest.approx(3 / 8)
        assert future.info is not None and future.info.padded_share == pytest.approx(3 / 8)


def test_a_mask_that_is_given_is_padded_with_zeros() -> None:
    mask = np.array([[1, 1, 0]], "float32")
    with engine_of(PAD) as engine:
        results = engine.infer({"x": row(3), "mask": mask})
    np.testing.assert_allclose(results["mean"], [1.5])


def test_lengths_are_made_in_the_models_form() -> None:
    def last(inputs: Arrays) -> Arrays:
        places = inputs["lengths"].reshape(-1) - 1
        return {"last": np.take_along_axis(inputs["x"], places[:, None], axis=1)}

    with paddleinfer.Engine.from_callable(
        last,
        {"x": ("float32", (-1, -1)), "lengths": ("int64", (-1, 1))},
        ["last"],
        pad=PadAxis(inputs={"x": 1}, lengths="lengths", sizes=(4, 8)),
    ) as engine:
        assert engine.infer({"x": row(3)})["last"].tolist() == [[3.0]]
        assert engine.infer({"x": row(20)})["last"].tolist() == [[20.0]]  # beyond all sizes: as it is


def test_what_would_be_mostly_padding_is_left_alone() -> None:
    pad = PadAxis(inputs={"x": 1}, mask="mask", outputs={"twice": 1}, multiple=8, max_waste=0.5)
    with engine_of(pad) as engine:
        _, short = engine.infer({"x": row(3)}, return_info=True)
        _, long = engine.infer({"x": row(5)}, return_info=True)
    assert short.padded_share == 0
    assert long.padded_share == pytest.approx(3 / 8)


def test_a_fill_value_is_used() -> None:
    with paddleinfer.Engine.from_callable(
        lambda inputs: {"top": inputs["x"].max(axis=1)},
        {"x": ("float32", (-1, -1))},
        ["top"],
        pad=PadAxis(inputs={"x": 1}, multiple=8, fill={"x": -1e9}),
    ) as engine:
        assert engine.infer({"x": np.array([[-5.0, -7.0]], "float32")})["top"].tolist() == [-5.0]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"inputs": {}}, "inputs of PadAxis must map"),
        ({"inputs": {"x": 0}, "multiple": 8}, "axes from 1 up"),
        ({"inputs": {"x": 1}}, "sizes, or a multiple"),
        ({"inputs": {"x": 1}, "multiple": 8, "sizes": (8,)}, "not both"),
        ({"inputs": {"x": 1}, "sizes": (8, 8)}, "must rise"),
        ({"inputs": {"x": 1}, "multiple": 8, "max_waste": 2}, "from 0 to 1"),
        ({"inputs": {"x": 1}, "multiple": 8, "fill": 3}, "fill of PadAxis"),
        (
            {"inputs": {"x": 1}, "multiple": 8, "lengths": "x"},
            "lengths of PadAxis names 'x', which is padded",
        ),
        ({"inputs": {"x": 1}, "multiple": 8, "mask": "m", "lengths": "m"}, "lengths of PadAxis names 'm'"),
        ({"inputs": {"x": 1}, "multiple": 8, "per": {"y": 2}}, "per of PadAxis names 'y'"),
        ({"inputs": {"x": 1}, "multiple": 8, "outputs": {"y": 1}, "per": {"y": 0}}, "per of PadAxis for 'y'"),
        ({"inputs": {"x": 1}, "multiple": 8, "per": 8}, "per of PadAxis must map"),
        ({"inputs": {"x": 1}, "multiple": 8, "split_rows": True}, "needs lengths or mask"),
        ({"inputs": {"x": 1}, "multiple": 8, "split_rows": 1}, "True or False"),
        (
            {"inputs": {"x": 1}, "multiple": 8, "outputs": {"y": 1}, "output_fill": {"y": -1}},
            "no effect without split_rows",
        ),
    ],
)
def test_a_wrong_description_is_refused_in_a_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(paddleinfer.ConfigError, match=sentence):
        PadAxis(**fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"inputs": {"z": 1}}, "input 'z'; the model has x, mask"),
        ({"inputs": {"x": 2}}, "axis 2 of input 'x', which has 2"),
        ({"inputs": {"x": 1}, "outputs": {"z": 1}}, "output 'z'"),
        ({"inputs": {"x": 1}, "mask": "z"}, "input 'z'"),
    ],
)
def test_names_that_the_model_does_not_have_are_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(paddleinfer.ConfigError, match=sentence):
        engine_of(PadAxis(**fields, multiple=8))


def test_inputs_that_are_padded_together_must_be_equally_long() -> None:
    with (
        engine_of(PadAxis(inputs={"x": 1, "mask": 1}, multiple=8)) as engine,
        pytest.raises(paddleinfer.InvalidInput, match="'x' has 3, 'mask' has 4"),
    ):
        engine.infer({"x": row(3), "mask": row(4)})


def steps_of(inputs: Arrays) -> Arrays:
    """One step for four elements, rounded up, and a sum over all; as a text recogniser's convolutions do."""
    x = inputs["x"]
    steps = -(-x.shape[1] // 4)
    filled = np.zeros((len(x), steps * 4), x.dtype)
    filled[:, : x.shape[1]] = x
    return {"steps": filled.reshape(len(x), steps, 4).max(axis=2), "sum": x.sum(axis=1)}


def steps_engine(**fields: Any) -> paddleinfer.Engine:
    pad = PadAxis(inputs={"x": 1}, multiple=16, outputs={"steps": 1}, **fields)
    return paddleinfer.Engine.from_callable(steps_of, {"x": ("float32", (-1, -1))}, ["steps", "sum"], pad=pad)


@pytest.mark.parametrize("length", [1, 4, 5, 13, 16, 17])
def test_an_output_of_fewer_steps_is_cropped_to_those_of_the_data(length: int) -> None:
    with steps_engine(per={"steps": 4}) as engine:
        results = engine.infer({"x": row(length)})
    np.testing.assert_array_equal(results["steps"], steps_of({"x": row(length)})["steps"])


def test_an_output_that_is_not_as_long_as_was_said_is_refused_in_a_sentence() -> None:
    with steps_engine(per={"steps": 8}) as engine:
        with pytest.raises(
            paddleinfer.ModelError, match="'steps' is 2 long on axis 1 for inputs padded to 16"
        ):
            engine.infer({"x": row(5)})
        with pytest.raises(paddleinfer.ModelError, match=r"its shape is \(1, 4\)"):
            engine.submit({"x": row(5)}).result()
    with steps_engine() as engine, pytest.raises(paddleinfer.ModelError, match="correct outputs or per"):
        engine.infer({"x": row(5)})


def test_an_axis_that_an_output_does_not_have_is_refused_at_load() -> None:
    with pytest.raises(paddleinfer.ConfigError, match="pad names axis 7 of output 'y', which has 2"):
        paddleinfer.Engine.from_callable(
            lambda feeds: {"y": feeds["x"]},
            {"x": ("float32", (-1, -1))},
            {"y": ("float32", (-1, -1))},
            pad=PadAxis(inputs={"x": 1}, outputs={"y": 7}, multiple=8),
        )


@pytest.mark.parametrize(
    "given",
    [
        {"inputs": {"x": True}},
        {"outputs": {"y": True}},
        {"sizes": (True, 8), "multiple": 1},
        {"multiple": True},
        {"fill": {"x": True}},
        {"max_waste": True},
        {"per": {"y": True}, "outputs": {"y": 1}},
    ],
)
def test_a_truth_value_is_no_number_of_a_padded_axis(given: dict[str, Any]) -> None:
    with pytest.raises(paddleinfer.ConfigError, match="True"):
        PadAxis(**{"inputs": {"x": 1}, "multiple": 8, **given})
