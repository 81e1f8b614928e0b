"""Sets of inputs and their shapes: what is accepted, and the one sentence that what is wrong gets."""

from __future__ import annotations

import types
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from conversions import convert, one_sentence, refusal
from engine_helpers import X, engine_of, rows

import paddleinfer
from paddleinfer.engine.conversion import Converter
from paddleinfer.models.reader import TensorSpec


def two_inputs(feeds: Any) -> str:
    """What an engine with the inputs a and b, the latter of two columns, says to `feeds`."""
    inputs = {"a": ("float32", (-1,)), "b": ("int64", (-1, 2))}
    with (
        paddleinfer.Engine.from_callable(lambda given: given["a"], inputs, ["y"]) as engine,
        pytest.raises(paddleinfer.InvalidInput) as caught,
    ):
        engine.infer(feeds)
    assert engine.stats()["requests"] == 0
    return one_sentence(caught.value)


A = np.zeros(2, "float32")
B = np.zeros((2, 2), "int64")


# Which inputs


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({"c": A, "b": B}, ["there is no input 'c'", "a, b"]),
        ({"a": A, "b": B, "c": A}, ["there is no input 'c'"]),
        ({"a": A, "b": B, 3: A}, ["there is no input 3"]),
        ({"a": A, "b": B, None: A}, ["there is no input None"]),
        ({"a": A}, ["missing input 'b'"]),
        ({}, ["missing input 'a', 'b'"]),
        ([A], ["1 inputs", "takes 2: a, b"]),
        ((A, B, B), ["3 inputs", "takes 2: a, b"]),
        ([], ["0 inputs", "takes 2"]),
        (A, ["one array was given", "a, b", "pass a dict"]),
        (3.5, ["one array was given"]),
        (None, ["must be a dict of arrays", "not None"]),
        ("a", ["must be a dict of arrays", "not 'a'"]),
        (b"a", ["must be a dict of arrays"]),
        ({"a": A, "b": B[:1]}, ["unequal rows", "'a' has 2", "'b' has 1"]),
        ({"a": A[:1], "b": B}, ["unequal rows"]),
        ({"a": A, "b": B[:0]}, ["'b'", "no rows"]),
        ({"a": A, "b": None}, ["'b'"]),
        ({"a": A, "b": A}, ["'b'", "int64", "float32"]),
    ],
)
def test_wrong_sets_of_inputs_are_refused_in_one_sentence(feeds: Any, words: list[str]) -> None:
    said = two_inputs(feeds)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    "feeds",
    [
        None,
        "x",
        b"x",
        {},
        {"x": None},
        {"x": "a"},
        {"x": {"x": 1}},
        {"x": {1, 2, 3}},
        object(),
        len,
        iter([1.0]),
    ],
)
def test_what_is_no_array_at_all_is_refused(feeds: Any) -> None:
    with engine_of() as engine:
        for call in (engine.infer, engine.submit):
            with pytest.raises(paddleinfer.InvalidInput) as caught:
                call(feeds)
            one_sentence(caught.value)


def test_a_name_and_its_alias_together_are_refused() -> None:
    converter = Converter(
        [TensorSpec("x_0", "x", "float32", (-1,))], rows_follow_batch=True, strict_dtypes=False
    )
    assert converter({"x": A})[0] is converter({"x_0": A})[0] is A
    with pytest.raises(paddleinfer.InvalidInput) as caught:
        converter({"x": A, "x_0": A})
    assert "same input" in one_sentence(caught.value, "x", "x_0")


def test_inputs_come_as_a_dict_a_mapping_a_list_a_tuple_or_one_array() -> None:
    x = rows(2)
    with engine_of() as engine:
        for feeds in (
            {"x": x},
            OrderedDict(x=x),
            types.MappingProxyType({"x": x}),
            [x],
            (x,),
            x,
            {"x": x.tolist()},
            [x.tolist()],
        ):
            np.testing.assert_array_equal(engine.infer(feeds)["y"], x * 2)
    inputs = {"a": ("float32", (-1,)), "b": ("float32", (-1,))}
    with paddleinfer.Engine.from_callable(lambda i: i["a"] - i["b"], inputs, ["y"]) as engine:
        for pair in ([A + 3, A + 1], (A + 3, A + 1), {"b": A + 1, "a": A + 3}):
            assert engine.infer(pair)["y"].tolist() == [2, 2]


# Shapes


@pytest.mark.parametrize(
    ("shape", "declared", "words"),
    [
        ((3,), (-1, 3), ["1 dimensions (3,)", "takes 2 (?, 3)", "for one row pass x[None]"]),
        ((4, 5), (1, 4, 5), ["pass x[None]"]),
        ((2, 3, 1), (-1, 3), ["3 dimensions"]),
        ((), (-1,), ["0 dimensions", "pass x[None]"]),
        ((3,), (), ["1 dimensions"]),
        ((2, 4), (-1, 3), ["(2, 4)", "(?, 3)", "dimension 1 must be 3"]),
        ((2, 3), (4, 3), ["dimension 0 must be 4"]),
        ((0, 3), (-1, 3), ["no rows"]),
        ((2, 0), (-1, 3), ["(2, 0)", "(?, 3)", "dimension 1 must be 3"]),
        ((1,) * 10, (-1,) * 10, ["larger than Paddle takes"]),
    ],
)
def test_wrong_shapes_are_refused_with_both_shapes(
    shape: tuple[int, ...], declared: tuple[int, ...], words: list[str]
) -> None:
    said = refusal(np.zeros(shape, "float32"), shape=declared)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(("shape", "declared"), [((4,), (-1, 3)), ((3, 1, 1), (-1, 3)), ((4, 5), (2, 4, 5))])
def test_the_hint_for_one_row_comes_only_where_it_would_help(
    shape: tuple[int, ...], declared: tuple[int, ...]
) -> None:
    assert "None" not in refusal(np.zeros(shape, "float32"), shape=declared)


def test_an_axis_longer_than_paddle_counts_is_refused() -> None:
    endless = np.zeros((2**31, 0), "int8")  # has no memory
    assert "larger than Paddle takes" in refusal(endless, "int8", (-1, -1))
    with engine_of() as engine, pytest.raises(paddleinfer.InvalidInput, match="larger than Paddle takes"):
        engine.infer(np.zeros((2**31, 0), "float32"))


def test_scalar_inputs_are_taken_where_they_are_declared() -> None:
    inputs = {"x": X, "scale": ("float32", ())}
    with paddleinfer.Engine.from_callable(lambda i: i["x"] * i["scale"], inputs, ["y"]) as engine:
        for scale in (2.0, 2, np.float32(2), np.float64(2), np.array(2.0), np.array(2, "float32"), True):
            results = engine.infer({"x": rows(2), "scale": scale})
            np.testing.assert_array_equal(results["y"], rows(2) * np.float32(scale))
        for wrong in ([2.0], np.ones(1, "float32")):
            with pytest.raises(paddleinfer.InvalidInput, match="1 dimensions"):
                engine.infer({"x": rows(), "scale": wrong})


def test_inputs_without_a_common_batch_axis_may_differ_in_rows() -> None:
    inputs = {"a": ("float32", (-1,)), "b": ("float32", (-1,))}
    with paddleinfer.Engine.from_callable(
        lambda i: i["a"].sum() + i["b"].sum(), inputs, ["y"], batchable=False
    ) as engine:
        assert engine.infer([np.ones(2, "float32"), np.ones(5, "float32")])["y"] == 7


def test_an_undeclared_shape_takes_any_but_a_scalar() -> None:
    assert convert(np.ones((2, 3, 4), "float32"), shape=None).shape == (2, 3, 4)
    assert "batch axis" in refusal(1.0, shape=None)
    assert convert(1.0, shape=None, follow=False).shape == ()
