"""Whether rows of several requests may share a run is found out by running a few, when first needed."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_helpers import (
    PATIENCE_S,
    Arrays,
    Gate,
    X,
    assert_close,
    eventually,
    merging,
    rows,
    run_threads,
)
from zoo import Zoo

import paddleinfer

PROBES = 8  # batches whose requests run alone, and together twice, to compare


def batchable(engine: paddleinfer.Engine) -> dict[str, Any]:
    return engine.effective_config()["batchable"]


def model_of(compute: Callable[[np.ndarray], Any]) -> Callable[..., paddleinfer.Engine]:
    """For merging(): an engine whose y is computed behind the gate."""

    def make(gate: Gate, **options: Any) -> paddleinfer.Engine:
        def model(inputs: Arrays) -> Arrays:
            gate(inputs)
            return {"y": compute(inputs["x"])}

        return paddleinfer.Engine.from_callable(model, {"x": X}, ["y"], **options)

    return make


def ask_together(engine: paddleinfer.Engine, gate: Gate, values: list[float]) -> list[Any]:
    """Results or errors of single rows that waited for one run."""
    futures = [engine.submit(rows(value=value)) for value in values]
    gate.open()
    for future in futures:
        future.exception(PATIENCE_S)
    assert eventually(lambda: engine.stats()["running_executions"] == 0)
    return [future.exception() or future.result()["y"] for future in futures]


# Rows that may


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_first_rows_that_could_share_a_run_are_probed(count: int) -> None:
    with merging(batchable="auto") as (engine, gate):
        assert batchable(engine)["value"] == "unknown"
        before = engine.stats()
        given = ask_together(engine, gate, [float(number) for number in range(count)])
        assert [y.tolist() for y in given] == [[[2 * number] * 3] for number in range(count)]
        assert gate.sizes == [*[1] * count, count, count]
        assert batchable(engine)["value"] == "yes" and batchable(engine)["source"] == "measured"
        stats = engine.stats()  # without the two runs that only compared
        assert stats["executions"] - before["executions"] == 1 + count
        assert stats["executed_rows"] == stats["rows"] and stats["internal_runs"] == 2
        assert stats["verified_requests"] == count and stats["verification_failures"] == 0


def test_a_model_is_probed_some_times_and_then_taken_at_its_word() -> None:
    with merging(batchable="auto", verify_every=0) as (engine, gate):
        ask_together(engine, gate, [1, 2, 3])
        for turn in range(1, PROBES + 2):
            gate.shut()
            engine.submit(rows())
            gate.wait_entered()
            ask_together(engine, gate, [4, 5, 6])
            assert gate.sizes == ([1, 1, 1, 1, 3, 3] if turn < PROBES else [1, 3])
        assert engine.stats()["internal_runs"] == 2 * PROBES


def test_nothing_is_probed_while_requests_come_one_by_one() -> None:
    with merging(batchable="auto") as (engine, gate):
        gate.open()
        assert eventually(lambda: engine.stats()["running_executions"] == 0)
        gate.batches.clear()
        for size in (1, 2, 8, 3):
            engine.infer(rows(size))
        assert gate.sizes == [1, 2, 8, 3] and batchable(engine)["value"] == "unknown"


def test_batchable_true_is_taken_at_its_word() -> None:
    with merging(batchable=True) as (engine, gate):
        ask_together(engine, gate, [1, 2, 3, 4])
        assert gate.sizes == [4]
        assert batchable(engine) == {"value": "yes", "source": "option"}


def test_batchable_false_never_merges_and_never_divides() -> None:
    with merging(batchable=False) as (engine, gate):
        ask_together(engine, gate, [1, 2, 3, 4])
        assert gate.sizes == [1, 1, 1, 1]
        gate.batches.clear()
        assert engine.infer(rows(20))["y"].shape == (20, 3)
        assert gate.sizes == [20]
        assert batchable(engine) == {"value": "no", "source": "option"}


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x * np.float32(np.nan),
        lambda x: np.where(x > 2, np.float32(np.inf), np.float32(np.nan)),
        lambda x: x * np.float32(0),
        lambda x: x[:, 0].astype("int64"),
        lambda x: x[:, :1] > 2,
        lambda x: x.astype("float16"),
        lambda x: np.zeros((len(x), 0), "float32"),
        lambda x: x * (1 + np.float32(1e-6) * len(x)),
    ],
    ids=["nan", "inf", "zero", "integers", "booleans", "half", "empty", "within the tolerance"],
)
def test_outputs_of_every_kind_may_turn_out_mergeable(compute: Callable[[np.ndarray], Any]) -> None:
    with merging(model_of(compute), batchable="auto") as (engine, gate):
        given = ask_together(engine, gate, [1, 2, 3, 4])
        assert batchable(engine)["value"] == "yes", batchable(engine)
        assert all(y.shape == compute(rows()).shape for y in given)


# Rows that may not


def bias_of_batch(x: np.ndarray) -> np.ndarray:
    return x - x.mean(0)


@pytest.mark.parametrize(
    ("compute", "why"),
    [
        (bias_of_batch, "output y of a row differs by"),
        (lambda x: x.mean(), r"output y has the shape \[\] for 1 rows"),
        (lambda x: x.mean(0), r"output y has the shape \[3\] for 1 rows"),
        (lambda x: x[:1], r"output y has the shape \[1, 3\] for 8 rows"),
        (lambda x: np.repeat(x, 2, 0), r"output y has the shape \[2, 3\] for 1 rows"),
        (
            lambda x: np.pad(x, ((0, 0), (0, len(x)))),
            r"output y has the shape \[8, 11\] for 8 rows, and \[1, 4\]",
        ),
        (lambda x: (x[:, 0] + len(x) // 3).astype("int64"), "output y of a row differs"),
        (lambda x: x[::-1], "output y of a row differs"),
        (lambda x: x * (np.nan if len(x) == 4 else 1), "output y of a row is finite in only one"),
    ],
)
def test_rows_that_influence_each_other_are_found_out(
    compute: Callable[[np.ndarray], Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), merging(model_of(compute), batchable="auto") as (engine, gate):
        given = ask_together(engine, gate, [1, 2, 3, 4])
        for number, y in enumerate(given, 1):
            np.testing.assert_array_equal(y, compute(rows(value=number)))
        report = batchable(engine)
        assert report["value"] == "no" and report["source"] == "measured"
        assert re.match(why, report["note"])
        gate.shut()
        engine.submit(rows())
        gate.wait_entered()
        ask_together(engine, gate, [5, 6, 7])
        assert gate.sizes == [1, 1, 1, 1]
    told = [record.message for record in caplog.records if "runs each request by itself" in record.message]
    assert len(told) == 1 and report["note"] in told[0]


def test_a_model_that_fails_with_several_rows_is_found_out() -> None:
    def single(x: np.ndarray) -> np.ndarray:
        if 1 < len(x) < 8:  # eight have run by then
            raise ValueError("one row please")
        return x * 2

    with merging(model_of(single), batchable="auto") as (engine, gate):
        given = ask_together(engine, gate, [1, 2, 3])
        assert [y[0, 0] for y in given] == [2, 4, 6] and engine.stats()["errors"] == 0
        report = batchable(engine)
        assert report["value"] == "no"
        assert re.match("it fails with 3 rows together, and not with each alone: .*one row", report["note"])


def test_rows_that_do_not_follow_are_found_out_also_when_batchable_was_promised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING), merging(model_of(lambda x: x.mean(0))) as (engine, gate):
        given = ask_together(engine, gate, [1, 2, 3, 4])
        assert [y.tolist() for y in given] == [[number] * 3 for number in (1, 2, 3, 4)]
        assert gate.sizes == [1, 1, 1, 1]  # the first run alone has shown it
        assert (
            batchable(engine)["value"] == "no" and "has the shape [3] for 1 rows" in batchable(engine)["note"]
        )
    assert "runs each request by itself" in caplog.text


# Probes that say nothing


def test_a_probe_leaves_a_bad_row_out() -> None:
    with merging(batchable="auto") as (engine, gate):
        given = ask_together(engine, gate, [1, -1, 3])
        assert isinstance(given[1], paddleinfer.ModelError)
        assert given[0].tolist() == [[2] * 3] and given[2].tolist() == [[6] * 3]
        assert batchable(engine)["value"] == "yes"
        assert gate.sizes == [1, 1, 1, 2, 2]


def test_a_probe_with_one_good_row_is_repeated_on_others() -> None:
    with merging(batchable="auto") as (engine, gate):
        given = ask_together(engine, gate, [1, -1])
        assert isinstance(given[1], paddleinfer.ModelError) and given[0].tolist() == [[2] * 3]
        assert batchable(engine)["value"] == "unknown" and gate.sizes == [1, 1]
        gate.shut()
        engine.submit(rows())
        gate.wait_entered()
        ask_together(engine, gate, [4, 5, 6])
        assert gate.sizes == [1, 1, 1, 1, 3, 3] and batchable(engine)["value"] == "yes"


def test_a_probe_whose_callers_have_left_is_repeated() -> None:
    with merging(batchable="auto") as (engine, gate):
        futures = [engine.submit(rows(value=number)) for number in (1, 2)]
        gate.let_one_through()
        gate.wait_entered()
        for future in futures:
            future._handle.give_up()
        gate.open()
        assert engine.infer(rows())["y"].tolist() == [[2] * 3]
        gate.shut()
        engine.submit(rows())
        gate.wait_entered()
        given = ask_together(engine, gate, [4, 5, 6])
        assert [y[0, 0] for y in given] == [8, 10, 12]
        assert batchable(engine)["value"] == "yes"


# Paddle


@pytest.mark.parametrize("driver", ["native", "python"])
@pytest.mark.parametrize("name", ["scalar", "centred"])
def test_paddle_models_whose_rows_depend_on_each_other_are_run_unmerged(
    zoo: Zoo, name: str, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory = zoo.directory(name, zoo.formats[0])
    given = [np.random.default_rng(place).standard_normal((2, 3)).astype("float32") for place in range(24)]
    with paddleinfer.Engine(directory, driver=driver, instances=1, batchable=False) as engine:
        alone = [engine.infer([x]) for x in given]
    with (
        caplog.at_level(logging.WARNING),
        paddleinfer.Engine(directory, driver=driver, instances=2) as engine,
    ):

        def call(number: int) -> None:
            for _ in range(10):
                futures = [engine.submit([x]) for x in given]
                for expected, future in zip(alone, futures, strict=True):
                    assert_close(future.result(PATIENCE_S), expected)

        run_threads(4, call)
        assert eventually(lambda: batchable(engine)["value"] == "no")
        assert len(engine.stats()["batch_rows"]) == 1
    told = [record.message for record in caplog.records if "runs each request by itself" in record.message]
    assert len(told) == (1 if batchable(engine)["source"] == "measured" else 0)
