"""What an engine tells about a request, and the options that decide how it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Arrays, engine_of, gated, rows

import paddleinfer
from paddleinfer.testing import EngineOpener, FakePredictor, assert_batches


def test_info_says_what_happened() -> None:
    with engine_of() as engine:
        results, info = engine.infer([rows(3)], return_info=True)
        future = engine.submit([rows(2)])
        future.result(PATIENCE_S)
    assert results["y"].shape == (3, 3)
    assert info.batch_rows == 3 and info.instance == 0 and info.padded_share == 0
    assert info.bucket == "x: float32[rows, 3]"
    assert info.queue_us >= 0 and info.run_us > 0 and info.hold_us == 0
    assert future.info is not None and future.info.batch_rows == 2 and future.info.predicted_us is not None


def test_a_request_that_never_ran_has_no_info() -> None:
    with gated() as (engine, _):
        waiting = engine.submit([rows()])
        assert waiting.info is None
        assert waiting.cancel()
        assert waiting.info is None


def test_batches_are_padded_to_allowed_sizes_and_cropped(
    fake_predictor: Callable[..., FakePredictor], paddle_engine: EngineOpener
) -> None:
    predictor = fake_predictor()
    engine = paddle_engine(predictor, allowed_batch_sizes=[4, 8])
    x = np.arange(15, dtype="float32").reshape(5, 3)
    results, info = engine.infer([x], return_info=True)
    np.testing.assert_array_equal(results["y"], x)
    assert_batches(predictor, [[0, 3, 6, 9, 12, 12, 12, 12]])
    assert info.padded_share == pytest.approx(3 / 8) and info.batch_rows == 5


def test_more_urgent_classes_go_first() -> None:
    with gated(batchable=False) as (engine, gate):
        futures = [engine.submit([rows(value=value)], priority=value) for value in (2, 1, 0)]
        gate.open()
        for future in futures:
            future.result(PATIENCE_S)
        assert gate.ran == [-1, 0, 1, 2]


@pytest.mark.parametrize("priority", [-1, 3, 1.5, 1.0, True, False, "0", None])
def test_a_priority_that_is_none_is_refused(priority: Any) -> None:
    with engine_of() as engine, pytest.raises(paddleinfer.InvalidInput, match="priority must be 0"):
        engine.infer([rows()], priority=priority)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"policy": "fixed_delay"}, "needs max_queue_delay_us"),
        ({"policy": "eager", "max_queue_delay_us": 5}, "no effect"),
        ({"policy": "lazy"}, 'must be one of "adaptive"'),
        ({"preferred_batch_sizes": [4, 2]}, "must rise"),
        ({"preferred_batch_sizes": [64]}, "from 1 to 32"),
        ({"allowed_batch_sizes": 4}, "must be a list"),
        ({"pad": 3}, "must be a PadAxis"),
        ({"warmup": 1}, "must be True or False"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(paddleinfer.ConfigError, match=sentence):
        engine_of(**options)


@pytest.mark.parametrize("policy", ["adaptive", "eager", "fixed_delay"])
def test_every_policy_answers(policy: str) -> None:
    options = {"max_queue_delay_us": 1000} if policy == "fixed_delay" else {}
    with engine_of(policy=policy, **options) as engine:
        futures = [engine.submit([rows(value=value)]) for value in range(40)]
        for value, future in enumerate(futures):
            np.testing.assert_array_equal(future.result(PATIENCE_S)["y"], rows(value=2 * value))
        assert engine.effective_config()["policy"]["value"] == policy


def test_running_out_of_memory_halves_the_batch() -> None:
    most = []

    def model(inputs: Arrays) -> Arrays:
        if len(inputs["x"]) > 8:
            raise MemoryError("too many rows")
        most.append(len(inputs["x"]))
        return {"y": inputs["x"] * 2}

    with engine_of(model, batchable=True) as engine:
        futures = [engine.submit([rows(value=value)]) for value in range(300)]
        for value, future in enumerate(futures):
            np.testing.assert_array_equal(future.result(PATIENCE_S)["y"], rows(value=2 * value))
        assert engine.stats()["errors"] == 0
    assert max(most) <= 8
