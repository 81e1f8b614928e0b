"""What a request gets in a shared run is compared with what it gets alone: at first, and in service."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Arrays, Gate, engine_of, eventually, merging, rows, run_threads

import paddleinfer
from paddleinfer.metrics import exposition

FIRST_SHARED_RUNS = 24  # more than are compared before their results are given


def shared_list(inputs: Arrays) -> Arrays:
    """A detector: the boxes of all rows in one list, and how many each row has."""
    counts = inputs["x"][:, 0].astype("int64")
    return {"boxes": np.repeat(inputs["x"], counts, axis=0), "counts": counts}


def padded_to_the_longest(inputs: Arrays) -> Arrays:
    """A decoder that stops with its longest row."""
    lengths = inputs["x"][:, 0].astype("int64")
    steps = np.arange(lengths.max(initial=0))
    return {"tokens": np.where(steps < lengths[:, None], steps + 1, 0)}


def batch_statistics(inputs: Arrays) -> Arrays:
    """Batch normalisation in its training form."""
    x = inputs["x"]
    return {"y": (x - x.mean(0)) / (x.std(0) + 1)}


def sorted_rows(inputs: Arrays) -> Arrays:
    """The best row first."""
    return {"y": inputs["x"][np.argsort(-inputs["x"][:, 0], kind="stable")]}


def last_row_alike(inputs: Arrays) -> Arrays:
    """Equal to its neighbours' mean in the last column, where all are equal otherwise."""
    x = inputs["x"].copy()
    x[:, 2] = x[:, 2].max()
    return {"y": x}


KINDS = [shared_list, padded_to_the_longest, batch_statistics, sorted_rows, last_row_alike]


def outputs_of(model: Callable[[Arrays], Arrays]) -> list[str]:
    return list(model({"x": rows()}))


def occupy(engine: paddleinfer.Engine, gate: Gate) -> None:
    """Has its one instance stand at the gate, once it has done with all else."""
    assert eventually(lambda: engine.stats()["running_executions"] == 0, PATIENCE_S)
    gate.shut()
    engine.submit(rows())
    gate.wait_entered()


def assert_equal(given: Arrays, wanted: Arrays) -> None:
    for name, value in wanted.items():
        assert given[name].shape == value.shape, name
        np.testing.assert_allclose(given[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", KINDS)
def test_no_neighbours_values_are_given_though_at_first_rows_look_independent(
    model: Callable[[Arrays], Arrays],
) -> None:
    def make(gate: Gate, **options: Any) -> paddleinfer.Engine:
        def gated(inputs: Arrays) -> Arrays:
            gate(inputs)
            return model(inputs)

        return paddleinfer.Engine.from_callable(
            gated, {"x": ("float32", (-1, 3))}, outputs_of(model), **options
        )

    with merging(make, batchable="auto") as (engine, gate):
        gate.open()
        # Shared runs of one box or one length a row, in which nothing shows, then as many boxes as rows.
        for values in ([1, 1, 1], [1, 1, 1], [1, 2, 0]):
            occupy(engine, gate)
            futures = [engine.submit(rows(value=value)) for value in values]
            gate.open()
            for value, future in zip(values, futures, strict=True):
                assert_equal(future.result(PATIENCE_S), model({"x": rows(value=value)}))
        assert engine.effective_config()["batchable"]["value"] == "no"
        assert engine.stats()["errors"] == 0


@pytest.mark.parametrize("model", KINDS)
def test_callers_at_once_each_get_what_they_get_alone(model: Callable[[Arrays], Arrays]) -> None:
    with paddleinfer.Engine.from_callable(
        model, {"x": ("float32", (-1, 3))}, outputs_of(model), instances=2
    ) as engine:

        def call(number: int) -> None:
            rng = np.random.default_rng(number)
            for _ in range(20):
                x = rows(int(rng.integers(1, 3)), float(rng.integers(0, 4)))
                assert_equal(engine.infer(x), model({"x": x}))

        run_threads(6, call)


@pytest.mark.parametrize("model", KINDS)
def test_a_request_of_more_rows_than_a_batch_gets_what_one_run_gives(
    model: Callable[[Arrays], Arrays],
) -> None:
    x = np.repeat(np.where(np.arange(40) == 35, 7, 1).astype("float32")[:, None], 3, 1)
    for warm in (False, True):
        with paddleinfer.Engine.from_callable(
            model, {"x": ("float32", (-1, 3))}, outputs_of(model), instances=1, max_batch_size=8
        ) as engine:
            if warm:
                for future in [engine.submit(rows()) for _ in range(8)]:
                    future.result(PATIENCE_S)
            for _ in range(2):
                given = engine.infer(x)
                if model in (shared_list, padded_to_the_longest):  # the parts' shapes tell
                    assert_equal(given, model({"x": x}))
                    assert engine.effective_config()["batchable"]["value"] == "no"
            assert engine.stats()["errors"] == 0


def test_a_request_in_parts_runs_whole_where_batchable_was_promised_wrongly() -> None:
    x = np.repeat(np.array([1, 1, 1, 1, 3, 1, 0, 1, 2], "float32")[:, None], 3, 1)
    with paddleinfer.Engine.from_callable(
        shared_list, {"x": ("float32", (-1, 3))}, ["boxes", "counts"], max_batch_size=2, batchable=True
    ) as engine:
        assert_equal(engine.infer(x), shared_list({"x": x}))
        assert engine.submit(x).result(PATIENCE_S)["counts"].tolist() == x[:, 0].tolist()


class TurnsBad:
    """For merging(): rows of a shared run are wrong from some moment on."""

    def __init__(self) -> None:
        self.bad = False

    def __call__(self, gate: Gate, **options: Any) -> paddleinfer.Engine:
        def model(inputs: Arrays) -> Arrays:
            gate(inputs)
            return {"y": inputs["x"] * (3 if self.bad and len(inputs["x"]) > 1 else 2)}

        return engine_of(model, **options)


def ask_together(engine: paddleinfer.Engine, gate: Gate) -> list[float]:
    """What three rows of value 1 got that waited for one run."""
    occupy(engine, gate)
    futures = [engine.submit(rows()) for _ in range(3)]
    gate.open()
    return [float(future.result(PATIENCE_S)["y"][0, 0]) for future in futures]


def test_a_difference_in_service_ends_the_merging_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    model = TurnsBad()
    options = {"batchable": "auto", "verify_every": 1}
    with caplog.at_level(logging.WARNING), merging(model, **options) as (engine, gate):
        gate.open()
        for _ in range(FIRST_SHARED_RUNS):
            assert ask_together(engine, gate) == [2, 2, 2]
        model.bad = True
        assert ask_together(engine, gate) == [3, 3, 3]  # nobody could know yet
        for _ in range(100):  # not every shared run is verified while several wait for it
            if eventually(lambda: engine.stats()["verification_failures"] == 1, timeout=0.5):
                break
            ask_together(engine, gate)
        assert engine.stats()["verification_failures"] == 1
        assert ask_together(engine, gate) == [2, 2, 2]
        report = engine.effective_config()["batchable"]
        assert report["value"] == "no"
        assert report["note"].startswith("output y of a row differs by 0.5 of its magnitude")
        metrics = exposition({"m": engine}).decode()
        assert 'paddleinfer_verification_failures_total{model="m"} 1.0' in metrics
        stats = engine.stats()
        assert stats["results"] == stats["requests"] and stats["verified_requests"] > 3
    told = [record.message for record in caplog.records if "runs each request by itself" in record.message]
    assert len(told) == 1 and "output y" in told[0]


@pytest.mark.parametrize("options", [{"verify_every": 0}, {"batchable": True, "verify_every": 1}])
def test_nothing_runs_again_where_that_is_not_wanted(options: dict[str, Any]) -> None:
    with merging(**{"batchable": "auto", **options}) as (engine, gate):
        gate.open()
        for _ in range(FIRST_SHARED_RUNS):
            ask_together(engine, gate)
        before = engine.stats()
        for _ in range(3):
            ask_together(engine, gate)
        assert not eventually(
            lambda: engine.stats()["verified_requests"] > before["verified_requests"], timeout=0.05
        )


def test_a_caller_may_change_its_arrays_once_it_has_its_result() -> None:
    with merging(batchable="auto", verify_every=1) as (engine, gate):
        gate.open()
        for turn in range(FIRST_SHARED_RUNS):
            occupy(engine, gate)
            given = [rows(value=number) for number in range(3)]
            futures = [engine.submit(x) for x in given]
            gate.open()
            for x, future in zip(given, futures, strict=True):
                future.result(PATIENCE_S)["y"][:] = turn
                x[:] = -7  # a run of it would fail
        assert eventually(lambda: engine.stats()["verified_requests"] > 3 * 8)
        stats = engine.stats()
        assert stats["verification_failures"] == 0 and stats["errors"] == 0


def test_outputs_near_zero_condemn_no_model() -> None:
    """A detector on noise: 5e-6 at most, and another sum order in a batch."""

    def model(inputs: Arrays) -> Arrays:
        return {"y": inputs["x"] * np.float32(5e-6) + np.float32(1e-7) * (len(inputs["x"]) > 1)}

    with engine_of(model, instances=1) as engine:
        assert engine.warmup().batchable
        for _ in range(4):
            for future in [engine.submit(rows()) for _ in range(6)]:
                future.result(PATIENCE_S)
        assert engine.effective_config()["batchable"]["value"] == "yes"


def test_a_tie_is_no_difference_also_where_only_the_integers_are_asked_for() -> None:
    """Two scores as good as equal: which of them is the larger goes with the sum order of the run."""

    def model(inputs: Arrays) -> Arrays:
        together = len(inputs["x"]) > 1
        scores = inputs["x"] * np.float32(0) + np.arange(inputs["x"].shape[1], dtype="float32")
        scores[:, -2] = scores[:, -1] + np.float32(2e-7 if together else -2e-7)
        return {"y": scores, "best": scores.argmax(-1)}

    def make(gate: Gate, **options: Any) -> paddleinfer.Engine:
        return paddleinfer.Engine.from_callable(
            lambda inputs: gate(inputs) and model(inputs),
            inputs={"x": ("float32", (-1, 3))},
            outputs=["y", "best"],
            **options,
        )

    with merging(make, batchable="auto", verify_every=1) as (engine, gate):
        gate.open()
        for _ in range(FIRST_SHARED_RUNS):
            occupy(engine, gate)
            futures = [engine.submit({"x": rows()}, outputs=["best"]) for _ in range(6)]
            gate.open()
            for future in futures:
                future.result(PATIENCE_S)
        assert eventually(lambda: engine.stats()["verified_requests"] > 0)
        assert engine.stats()["verification_failures"] == 0
        assert engine.effective_config()["batchable"]["value"] == "yes"


def test_a_result_that_is_no_number_among_others_is_told_in_plain_words() -> None:
    def model(inputs: Arrays) -> Arrays:
        return {"y": inputs["x"] * np.float32(np.nan if len(inputs["x"]) > 1 else 1)}

    def make(gate: Gate, **options: Any) -> paddleinfer.Engine:
        return engine_of(lambda inputs: gate(inputs) and model(inputs), **options)

    with merging(make, batchable="auto") as (engine, gate):
        gate.open()
        for _ in range(FIRST_SHARED_RUNS):
            assert np.isfinite(ask_together(engine, gate)).all()
        note = engine.effective_config()["batchable"]["note"]
    assert note.startswith("output y of a row is finite in only one of two runs,")


@pytest.mark.parametrize("value", [-1, 1.5, True, "often"])
def test_how_often_is_a_count(value: Any) -> None:
    with pytest.raises(paddleinfer.ConfigError, match="verify_every must be an integer from 0"):
        engine_of(verify_every=value)
