"""Example shapes given for all models of a server are assigned to the right models."""

from __future__ import annotations

from typing import Any

import pytest
from engine_helpers import engine_of

from paddleinfer import ConfigError, Engine
from paddleinfer.models.reader import ModelSpec
from paddleinfer.shim.service.model_shapes import ModelShapes


def spec_of(*inputs: str) -> ModelSpec:
    with Engine.from_callable(len, {name: ("float32", (-1, -1)) for name in inputs}, ["y"]) as engine:
        return engine.model


@pytest.fixture(scope="module")
def specs() -> dict[str, ModelSpec | None]:
    """Of two models that share an input, of one whose input has a colon, and of one that is damaged."""
    return {"a": spec_of("x", "n"), "b": spec_of("x"), "c": spec_of("a:x"), "damaged": None}


def shapes(specs: dict[str, ModelSpec | None], given: dict[str, Any]) -> dict[str, Any]:
    found = ModelShapes(specs, {"example_shapes": given, "warmup": True})
    options = {name: found.options_of(name) for name in specs}
    assert all(one.pop("warmup") is True for one in options.values())
    return {name: one["example_shapes"] for name, one in options.items() if one}


def test_each_model_gets_the_shapes_of_its_own_inputs(specs: dict[str, ModelSpec | None]) -> None:
    assert shapes(specs, {"x": (3,), "n": (4,)}) == {
        "a": {"x": (3,), "n": (4,)},
        "b": {"x": (3,)},
        "damaged": {"x": (3,), "n": (4,)},
    }


def test_a_shape_may_be_one_models(specs: dict[str, ModelSpec | None]) -> None:
    assert shapes(specs, {"b:x": (5,), "n": (4,)}) == {
        "a": {"n": (4,)},
        "b": {"x": (5,)},
        "damaged": {"n": (4,)},
    }


def test_an_input_whose_name_looks_like_that_is_meant_itself(specs: dict[str, ModelSpec | None]) -> None:
    assert shapes(specs, {"a:x": (5,)}) == {"a": {"x": (5,)}, "c": {"a:x": (5,)}}


def test_an_input_that_no_model_has_is_refused(specs: dict[str, ModelSpec | None]) -> None:
    whole = {name: spec for name, spec in specs.items() if spec is not None}
    for given in ("q", "b:n:x", "d:x"):
        with pytest.raises(ConfigError, match=f"names '{given}', and no model has such an input"):
            ModelShapes(whole, {"example_shapes": {given: (3,)}})


def test_one_model_alone_gets_what_is_given_and_refuses_it_itself() -> None:
    with engine_of() as engine:
        alone = {"m": engine.model}
    assert shapes(alone, {"q": (3,), "m:x": (4,)}) == {"m": {"q": (3,), "x": (4,)}}
    assert ModelShapes(alone, {"warmup": True}).options_of("m") == {"warmup": True}
    for odd in ((3,), 7):
        assert ModelShapes(alone, {"example_shapes": odd}).options_of("m") == {"example_shapes": odd}
