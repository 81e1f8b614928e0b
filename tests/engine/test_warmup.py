"""Warming up: batch sizes, instances, and rows alone against rows together."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Gate, X, engine_of, rows
from zoo import Zoo

import paddleinfer
from paddleinfer.testing import EngineOpener, FakePredictor


def test_every_instance_runs_every_size(
    fake_predictor: Callable[..., FakePredictor], paddle_engine: EngineOpener
) -> None:
    predictor = fake_predictor()
    report = paddle_engine(predictor, {"x": X}, ["y"], instances=2, max_batch_size=12).warmup()
    for thread in ("paddleinfer-0", "paddleinfer-1"):
        assert {1, 2, 4, 8, 12} <= {run.rows for run in predictor.runs if run.thread == thread}
    assert list(report.run_us) == [1, 2, 4, 8, 12] and all(value > 0 for value in report.run_us.values())
    assert report.batchable and report.largest_difference == {"y": 0.0}


def test_the_option_warms_up_before_the_engine_is_ready(zoo: Zoo) -> None:
    with paddleinfer.Engine(zoo.directory("mlp", zoo.formats[-1]), warmup=True, instances=1) as engine:
        assert engine.effective_config()["batchable"]["value"] == "yes"
        _, info = engine.infer([np.ones((1, 16), "float32")], return_info=True)
        assert info.predicted_us is not None and info.predicted_us > 0


def test_allowed_sizes_are_the_sizes_to_warm() -> None:
    with engine_of(allowed_batch_sizes=(3, 6)) as engine:
        assert list(engine.warmup().run_us) == [3, 6]


def test_sizes_may_be_named() -> None:
    with engine_of() as engine:
        assert list(engine.warmup(batch_sizes=[5, 2, 5]).run_us) == [2, 5]
        for wrong in ([], [0], [33], ["2"]):
            with pytest.raises(paddleinfer.ConfigError, match="batch_sizes must be integers from 1 to 32"):
                engine.warmup(batch_sizes=wrong)  # type: ignore[arg-type]


def test_a_model_whose_rows_differ_in_a_batch_runs_unmerged(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING),
        engine_of(lambda inputs: {"y": inputs["x"] - inputs["x"].mean(axis=0)}) as engine,
    ):
        report = engine.warmup()
        setting = engine.effective_config()["batchable"]
    assert not report.batchable and report.largest_difference["y"] > 0.01
    assert setting["value"] == "no" and "differs" in setting["note"]
    assert "cannot share a run" in caplog.text


def test_free_sizes_need_an_example(zoo: Zoo) -> None:
    directory = zoo.directory("conv", zoo.formats[-1])
    with pytest.raises(paddleinfer.ConfigError, match="give an example row or example_shapes"):
        paddleinfer.Engine(directory, warmup=True, instances=1)
    with paddleinfer.Engine(directory, instances=1, max_batch_size=4) as engine:
        with pytest.raises(paddleinfer.InvalidInput, match="must be one row, not 2"):
            engine.warmup([np.ones((2, 3, 8, 8), "float32")])
        report = engine.warmup([np.ones((1, 3, 8, 8), "float32")])
    assert list(report.run_us) == [1, 2, 4]
    assert max(report.largest_difference.values()) <= 1e-5


def test_warming_goes_before_what_waits_and_ends_at_close() -> None:
    gate = Gate()
    engine = engine_of(gate)
    busy = engine.submit([rows(value=-1)])
    gate.wait_entered()
    handle = engine._generation.core.warmup([rows()], 0)
    gate.open()
    assert busy.result(PATIENCE_S) is not None
    assert handle.wait(PATIENCE_S)
    engine.close()
    with pytest.raises(paddleinfer.EngineClosed):
        engine.warmup()


def test_warming_up_is_no_traffic(fake_predictor: Callable[..., FakePredictor]) -> None:
    predictor = fake_predictor()
    with paddleinfer.Engine.from_callable(predictor, {"x": X}, ["y"], instances=2, warmup=True) as engine:
        stats = engine.stats()
        assert stats["internal_runs"] == len(predictor.runs) > 0
        traffic = [stats[name] for name in stats if name not in ("generation", "internal_runs")]
        assert not any(any(count.values()) if isinstance(count, dict) else count for count in traffic), stats
        assert engine.diagnose().verdict == "unknown"
        with engine.trace() as trace:
            engine.warmup()
            engine.infer([rows()])
        after = engine.stats()
    assert after["internal_runs"] == len(predictor.runs) - 1 and after["results"] == after["executions"] == 1
    assert len(trace.requests) == len(trace.runs) == 1 and after["batch_rows"] == {1: 1}
