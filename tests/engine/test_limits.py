"""Options, the queue's limits, and timeouts."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, engine_of, gated, rows

import paddleinfer
from paddleinfer.config import BatchingOptions, EngineConfig, RuntimeOptions, option_names

# Options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"instance": 2}, "no option 'instance'; did you mean instances"),
        ({"max_queue_row": 2}, "did you mean max_queue_rows"),
        ({"default_timout": 2}, "did you mean default_timeout"),
        ({"zzz": 2}, "no option 'zzz'$"),
        ({"instances": 0}, "instances must be an integer from 1 to 1024, not 0"),
        ({"instances": 1.0}, "instances must be"),
        ({"instances": True}, "instances must be"),
        ({"instances": "two"}, "instances must be"),
        ({"instances": None}, "instances must be"),
        ({"max_queue_rows": 0}, "max_queue_rows must be"),
        ({"max_queue_rows": -1}, "max_queue_rows must be"),
        ({"max_queue_rows": 2**70}, "max_queue_rows must be"),
        ({"max_queue_bytes": 0}, "max_queue_bytes must be"),
        ({"max_queue_bytes": 1e6}, "max_queue_bytes must be"),
        ({"strict_dtypes": 1}, "strict_dtypes must be True or False"),
        ({"strict_dtypes": "no"}, "strict_dtypes must be"),
        ({"batchable": None}, "batchable must be"),
        ({"batchable": 1}, "batchable must be"),
        ({"default_timeout": "1"}, "default_timeout must be"),
        ({"ir_optim": "yes"}, "ir_optim must be"),
        ({"onednn": "on"}, "onednn must be"),
        ({"device": "tpu"}, "device must be"),
        ({"device": []}, "device must be"),
        ({"device": ["gpu", "gpu:0"]}, "names a device twice"),
        ({"device": ["cpu", "gpu:0"]}, "cannot mix"),
        ({"precision": "float8"}, "precision must be one of"),
        ({"driver": None}, "driver must be one of"),
        ({"cpu_threads": 0}, "cpu_threads must be"),
        ({"gpu_memory_mb": 0}, "gpu_memory_mb must be"),
        ({"max_onednn_shapes": 0}, "max_onednn_shapes must be"),
        ({"max_onednn_cache_bytes": 0}, "max_onednn_cache_bytes must be"),
        ({"eager_deletion": "lots"}, "eager_deletion must be"),
        ({"mkl_amd": 1}, "mkl_amd must be"),
        ({"max_memory_bytes": 0}, "max_memory_bytes must be an integer from 1"),
        ({"max_memory_bytes": 1e9}, "max_memory_bytes must be"),
    ],
)
def test_wrong_options_are_refused_in_a_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(paddleinfer.ConfigError, match=sentence) as caught:
        engine_of(**options)
    assert "\n" not in str(caught.value) and isinstance(caught.value, ValueError)


def numeric_options() -> list[str]:
    """Those that take a number, by their declared types."""
    fields = [
        field
        for kind in (RuntimeOptions, BatchingOptions, EngineConfig)
        for field in dataclasses.fields(kind)
        if re.search(r"\b(int|float)\b", str(field.type))
    ]
    assert len(fields) > 12
    return [field.name for field in fields]


@pytest.mark.parametrize("name", numeric_options())
def test_a_truth_value_is_no_number(name: str) -> None:
    given: dict[str, Any] = {"example_shapes": {"x": (True,)}}
    wrong = given.get(name, (True,) if name.endswith("_sizes") else True)
    with pytest.raises(paddleinfer.ConfigError, match=f"{name} must"):
        EngineConfig.from_options({name: wrong})


def test_a_truth_value_is_no_number_of_a_call() -> None:
    with engine_of() as engine:
        with pytest.raises(paddleinfer.ConfigError, match="batch_sizes"):
            engine.warmup([rows()], batch_sizes=[True])
        with pytest.raises(paddleinfer.ConfigError, match="max_requests"):
            engine.trace(True)
    with pytest.raises(paddleinfer.ConfigError, match="True"):
        paddleinfer.Engine.from_callable(lambda feeds: feeds, {"x": ("float32", (True,))}, ["x"])


def test_every_option_has_a_check_of_its_own() -> None:
    for name in option_names():
        with pytest.raises(paddleinfer.ConfigError, match=name):
            EngineConfig.from_options({name: object()})


def test_options_come_as_keywords_or_grouped_and_not_as_both() -> None:
    config = EngineConfig(RuntimeOptions(instances=2), BatchingOptions(max_queue_rows=9), default_timeout=3.0)
    assert EngineConfig.from_options(config.flat()) == config
    with engine_of(config=config) as engine:
        report = engine.effective_config()
    assert [report[name]["value"] for name in ("instances", "max_queue_rows", "default_timeout")] == [
        2,
        9,
        3.0,
    ]
    with pytest.raises(paddleinfer.ConfigError, match="not both: instances"):
        engine_of(config=config, instances=2)
    for wrong in ({}, {"instances": 2}, RuntimeOptions(), 3):
        with pytest.raises(paddleinfer.ConfigError, match="config must be an EngineConfig"):
            engine_of(config=wrong)
    with pytest.raises(paddleinfer.ConfigError, match="runtime must be RuntimeOptions"):
        EngineConfig(runtime={})  # type: ignore[arg-type]


# Limits


def test_a_full_queue_refuses_by_rows_and_by_bytes_and_says_when_to_come_back() -> None:
    for limits in ({"max_queue_rows": 4}, {"max_queue_bytes": 48}):
        with gated(**limits) as (engine, gate):
            held = [engine.submit(rows(3)), engine.submit(rows(1))]
            for call in (engine.infer, engine.submit):
                with pytest.raises(paddleinfer.QueueFull, match="4 rows and 48 bytes waiting") as caught:
                    call(rows(1))
                assert 0 < caught.value.retry_after_s < 3600
            assert held[1].cancel()  # gives its place back at once
            held[1] = engine.submit(rows(1))
            gate.open()
            assert all(future.result() for future in held)
            assert engine.infer(rows(4))


def test_a_request_of_more_bytes_than_may_wait_is_the_callers_error() -> None:
    with engine_of(max_queue_bytes=48) as engine:
        with pytest.raises(paddleinfer.InvalidInput, match=r"max_queue_bytes=48 .*infer_many"):
            engine.infer(rows(5))
        assert engine.infer(rows(4))
        assert engine.stats()["refused"] == 1


@pytest.mark.parametrize("batchable", [True, False, "auto"])
def test_a_request_of_more_rows_than_may_wait_just_runs_where_nothing_waits(batchable: Any) -> None:
    x = np.arange(300, dtype="float32").reshape(100, 3)
    with engine_of(max_queue_rows=4, max_batch_size=2, batchable=batchable, instances=2) as engine:
        for ask in (engine.infer, lambda x: engine.submit(x).result(PATIENCE_S)):
            np.testing.assert_array_equal(ask(x)["y"], x * 2)
        assert engine.stats()["queued_rows"] == engine.stats()["refused"] == 0


def test_a_request_of_more_rows_than_may_wait_is_refused_behind_others_with_what_to_do() -> None:
    with gated(max_queue_rows=4) as (engine, gate):
        waiting = engine.submit(rows(1))
        for call in (engine.infer, engine.submit):
            with pytest.raises(
                paddleinfer.QueueFull, match=r"5 rows.*max_queue_rows=4 .*infer_many"
            ) as caught:
                call(rows(5))
            assert 0 < caught.value.retry_after_s < 3600
        assert waiting.cancel()
        large = engine.submit(rows(5))  # though one runs
        with pytest.raises(paddleinfer.QueueFull, match="5 rows and 60 bytes waiting"):
            engine.submit(rows(1))
        gate.open()
        assert len(large.result(PATIENCE_S)["y"]) == 5


def test_timeouts_that_make_no_sense_are_refused_by_every_call() -> None:
    for wrong in (-1, -1e-9, float("nan"), float("inf"), True, "1", [1], 10**400):
        with engine_of() as engine:
            for call in (engine.infer, engine.submit):
                with pytest.raises(paddleinfer.InvalidInput, match="timeout must be"):
                    call(rows(), timeout=wrong)
            with pytest.raises(paddleinfer.ConfigError, match="timeout must be"):
                engine.close(timeout=wrong)
            assert engine.infer(rows())
        with pytest.raises(paddleinfer.ConfigError, match="default_timeout must be"):
            engine_of(default_timeout=wrong)


@pytest.mark.parametrize("timeout", [0, 0.0, 1e-9, 5e-324, 0.01])
def test_tiny_timeouts_end_in_the_deadline_error(timeout: float) -> None:
    with gated() as (engine, gate):
        with pytest.raises(paddleinfer.DeadlineExceeded, match=f"no result within {timeout:g} s") as caught:
            engine.infer(rows(), timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(paddleinfer.DeadlineExceeded):
            engine.submit(rows(), timeout=timeout).result()
        assert gate.ran == [-1]


@pytest.mark.parametrize("timeout", [1e5, 1e18, 1e300, 2**70])
def test_huge_timeouts_are_as_good_as_none(timeout: float) -> None:
    with engine_of() as engine:
        assert engine.infer(rows(), timeout=timeout)
        assert engine.submit(rows(), timeout=timeout).result(timeout)
        engine.close(timeout=timeout)


def test_the_default_timeout_holds_where_a_call_gives_none() -> None:
    with gated(default_timeout=0.02) as (engine, gate):
        with pytest.raises(paddleinfer.DeadlineExceeded, match=r"0\.02 s"):
            engine.infer(rows())
        with pytest.raises(paddleinfer.DeadlineExceeded, match=r"0\.02 s"):
            engine.submit(rows()).result()
        patient = engine.submit(rows(), timeout=PATIENCE_S)
        gate.open()
        assert patient.result()
