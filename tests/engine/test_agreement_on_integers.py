"""Integers that a model only computes with are also compared where floats of 32 bits cannot hold them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddleinfer import Engine
from paddleinfer.backends.onnx.proofs import Reference
from paddleinfer.engine.agreement import check_agreement
from paddleinfer.engine.opening import Opening
from paddleinfer.engine.paddle_answers import NoAnswers
from paddleinfer.errors import ModelLoadError

pytestmark = pytest.mark.on_paddle


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    return Reference("onnxruntime 1.32.0", tmp_path, Opening())


def note_of(engine: Engine) -> str:
    return str(engine.effective_config()["backend"]["note"])


class Integers:
    """Answers for Paddle by `remainders`, and notes on what it was asked."""

    def __init__(self, fails_on_large: bool = False) -> None:
        self.seen: list[Any] = []
        self._fails_on_large = fails_on_large

    def __call__(self, spec: Any, params: Any, cases: Any, load: Any) -> list[dict[str, Any]]:
        self.seen += [n for (n,) in cases]
        if self._fails_on_large and any((n > 1).any() for (n,) in cases):
            raise NoAnswers("too large")
        return [remainders({"n": n}) for (n,) in cases]


def remainders(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"r": inputs["n"] % 7, "share": (inputs["n"] / 7).astype("float32")}


def of_plain_integers(function: Any) -> Engine:
    engine = Engine.from_callable(function, {"n": ("int64", (-1, 4))}, ["r", "share"])
    loaded = engine._generation
    loaded.spec = dataclasses.replace(loaded.spec, plain_integers=("n",))
    return engine


def test_integers_that_are_only_computed_with_are_compared_where_floats_cannot_hold_them(
    reference: Reference,
) -> None:
    paddle = Integers()
    for _ in range(2):
        with of_plain_integers(remainders) as engine:
            check_agreement(engine._generation, reference, paddle)
            assert note_of(engine).endswith(
                "integers are equal on integers of both signs beyond 16,777,216, too"
            )
    *_, large = paddle.seen
    assert len(paddle.seen) == 3 and large.dtype == np.int64
    assert (abs(large) > 2**24).all() and (large % 2 == 1).all() and (large > 0).any() and (large < 0).any()


def test_an_output_of_integers_that_went_through_floats_is_refused(reference: Reference) -> None:
    def single_beyond_one(inputs: dict[str, Any]) -> dict[str, Any]:
        single = inputs["n"].astype("float32") % 7
        # The floats differ, too, and nobody looks at them.
        return (
            {"r": single.astype("int64"), "share": single}
            if abs(inputs["n"]).max() > 1
            else remainders(inputs)
        )

    with (
        of_plain_integers(single_beyond_one) as engine,
        pytest.raises(
            ModelLoadError,
            match="output 'r' is not equal, on integers of both signs beyond 16,777,216 of the shapes 2x4; "
            "verify_inputs with integers of your own has",
        ),
    ):
        check_agreement(engine._generation, reference, Integers())
    assert os.listdir(reference.directory) == []


def test_where_paddle_takes_no_large_integers_that_is_reported(reference: Reference) -> None:
    with of_plain_integers(remainders) as engine:
        check_agreement(engine._generation, reference, Integers(fails_on_large=True))
        assert note_of(engine).endswith(
            "; not compared on integers of both signs beyond 16,777,216: too large"
        )
