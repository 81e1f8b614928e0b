"""What a diagnosis says of requests that shapes keep apart, and of legacy models without graph passes."""

from __future__ import annotations

import numpy as np
import pytest
from diagnosis_helpers import apart, diagnosed, lone
from engine_helpers import PATIENCE_S, Steady

import paddleinfer
from paddleinfer.engine.warmup import WarmedSize

# Requests that each have a shape of their own


def test_shapes_that_keep_rows_apart_are_told_of_with_what_helps_and_by_how_much() -> None:
    diagnosis = diagnosed(*apart(100, us=5000, at_once=12))
    assert "99 runs had 99 shapes beyond the rows" in diagnosis.evidence
    (advice,) = (one for one in diagnosis.advice if "shapes" in one.action)
    assert advice.action.startswith("pad, or fewer shapes")
    assert advice.figure == "rows_per_s" and advice.predicted is None
    assert advice.at_most == pytest.approx(12, rel=0.1)


def test_with_run_times_of_larger_runs_the_gain_of_fewer_shapes_has_a_number() -> None:
    table = tuple(WarmedSize(rows, 2000 * rows + 3000, 2000 * rows + 3000) for rows in (1, 2, 4, 8, 16, 32))
    diagnosis = diagnosed(*apart(100, us=5000, at_once=12), warmed=table)
    (advice,) = (one for one in diagnosis.advice if "shapes" in one.action)
    # A run of 12 rows takes 27 ms instead of 12 times 5.
    assert advice.gain == pytest.approx(60 / 27, rel=0.15)


def test_where_axes_are_padded_larger_steps_are_advised() -> None:
    diagnosis = diagnosed(*apart(100, us=5000, at_once=12), pad=("x",))
    assert any(one.action.startswith("larger steps of pad, or fewer shapes") for one in diagnosis.advice)


@pytest.mark.parametrize(
    "changed",
    [{"at_once": 1}, {"shapes": 2}, {"shapes": 3}],
    ids=["a lone caller", "two shapes", "three shapes"],
)
def test_shapes_are_no_matter_where_they_keep_nothing_apart(changed: dict[str, int]) -> None:
    diagnosis = diagnosed(*apart(100, us=5000, **{"at_once": 12, **changed}))
    assert not any("shapes" in one.action for one in diagnosis.advice)


def test_shapes_are_no_matter_where_requests_never_merge() -> None:
    diagnosis = diagnosed(*apart(100, us=5000, at_once=12), batchable="no")
    assert not any("shapes" in one.action for one in diagnosis.advice)


# Graph passes of legacy models


def test_graph_passes_are_advised_with_what_they_were_worth() -> None:
    diagnosis = diagnosed(*lone(20, us=5000), legacy=True)
    (advice,) = (one for one in diagnosis.advice if one.change == {"ir_optim": True})
    assert (
        "5.0 times on PP-OCRv4 det, 2.5 times on PP-OCRv4 rec, 3.9 times on mobilenet_v2" in advice.sentence
    )
    for changed in ({"legacy": False}, {"legacy": True, "ir_optim": True}):
        advised = diagnosed(*lone(20, us=5000), **changed).advice  # type: ignore[arg-type]
        assert not any(one.change == {"ir_optim": True} for one in advised)


def test_faster_runs_shorten_what_waits_for_them() -> None:
    diagnosis = diagnosed(*apart(100, us=5000, at_once=12), legacy=True)
    (advice,) = (one for one in diagnosis.advice if one.change == {"ir_optim": True})
    (other,) = (one for one in diagnosis.advice if "a GPU" in one.action)
    assert diagnosis.verdict == "queue-bound" and other.at_most is not None
    assert advice.at_most is None or advice.at_most > 5


def test_on_a_gpu_no_factor_of_a_cpu_is_promised() -> None:
    diagnosis = diagnosed(*lone(20, us=5000), legacy=True, device="gpu:0")
    (advice,) = (one for one in diagnosis.advice if one.change == {"ir_optim": True})
    assert "times on" not in advice.sentence


def test_an_engine_that_keeps_rows_of_many_shapes_apart_says_so() -> None:
    gate = Steady()  # what waits, waits for runs
    described = {"x": ("float32", (-1, -1))}
    with paddleinfer.Engine.from_callable(gate, described, ["y"], batchable=True) as engine:
        futures = [engine.submit({"x": np.zeros((1, width), "float32")}) for width in range(1, 41)]
        gate.open()
        for future in futures:
            future.result(PATIENCE_S)
        diagnosis = engine.diagnose()
    assert "shapes beyond the rows" in diagnosis.evidence
    assert any("pad, or fewer shapes" in one.sentence for one in diagnosis.advice)
