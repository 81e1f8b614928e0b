"""A request that fails harms no neighbour: the batch runs again in parts, until only the culprit fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Gate, X, assert_close, learn_shapes, merging, rows, run_threads
from zoo import Zoo

import paddleinfer

# Negative values fail.


@pytest.mark.parametrize("place", range(8))
def test_one_bad_request_fails_alone_wherever_it_stands(place: int) -> None:
    with merging() as (engine, gate):
        futures = [engine.submit(rows(value=-1 if number == place else number)) for number in range(8)]
        gate.open()
        for number, future in enumerate(futures):
            if number == place:
                with pytest.raises(paddleinfer.ModelError, match="ValueError: negative") as caught:
                    future.result(PATIENCE_S)
                assert isinstance(caught.value.__cause__, ValueError)
            else:
                assert future.result(PATIENCE_S)["y"].tolist() == [[2 * number] * 3]
        assert gate.sizes[0] == 8 and len(gate.sizes) <= 2 * 3 + 1  # two halves at each of three levels
        assert engine.stats()["errors"] == 1


def test_several_bad_requests_each_get_their_own_error() -> None:
    with merging() as (engine, gate):
        bad = {1, 2, 6}
        futures = [engine.submit(rows(value=-1 if number in bad else number)) for number in range(8)]
        gate.open()
        errors = {number: future.exception(PATIENCE_S) for number, future in enumerate(futures)}
        assert {number for number, error in errors.items() if error is not None} == bad
        causes = [errors[number].__cause__ for number in bad]
        assert all(isinstance(cause, ValueError) for cause in causes) and len(set(map(id, causes))) == 3
        assert all(futures[n].result()["y"][0, 0] == 2 * n for n in range(8) if n not in bad)


def test_when_all_fail_each_is_told_so() -> None:
    with merging() as (engine, gate):
        futures = [engine.submit(rows(value=-1 - number)) for number in range(8)]
        gate.open()
        assert all(isinstance(future.exception(PATIENCE_S), paddleinfer.ModelError) for future in futures)
        assert engine.infer(rows())["y"].tolist() == [[2, 2, 2]]
        assert engine.stats()["errors"] == 8


def test_a_bad_row_fails_the_whole_of_its_own_request_only() -> None:
    with merging() as (engine, gate):
        mixed = np.concatenate([rows(2, 5), rows(1, -5)])
        futures = [engine.submit(x) for x in (rows(2, 1), mixed, rows(3, 2))]
        gate.open()
        assert isinstance(futures[1].exception(PATIENCE_S), paddleinfer.ModelError)
        np.testing.assert_array_equal(futures[0].result(PATIENCE_S)["y"], rows(2, 2))
        np.testing.assert_array_equal(futures[2].result(PATIENCE_S)["y"], rows(3, 4))


def test_who_gives_up_meanwhile_is_not_run_again() -> None:
    with merging() as (engine, gate):
        futures = [engine.submit(rows(value=value)) for value in (-1, 1, 2, 3)]
        gate.let_one_through()
        gate.wait_entered()
        futures[0]._handle.give_up()
        futures[1]._handle.give_up()
        gate.open()
        assert futures[2].result(PATIENCE_S)["y"][0, 0] == 4 and futures[3].result(PATIENCE_S)["y"][0, 0] == 6
        engine.infer(rows(value=7))
        assert [-1] not in gate.batches and [1] not in gate.batches
        stats = engine.stats()
        assert stats["cancelled"] == 2 and stats["errors"] == 0


def outputs_that_differ(gate: Gate, **options: Any) -> paddleinfer.Engine:
    """The second output has a shape of its own kind when a value of nine is among the rows."""

    def model(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        (doubled,) = gate(inputs).values()
        return [doubled, doubled[:, 0] if (inputs["x"] != 9).all() else np.zeros(3, "float32")]

    return paddleinfer.Engine.from_callable(model, {"x": X}, ["y", "z"], **options)


def test_an_output_that_does_not_hold_the_rows_makes_each_request_run_alone() -> None:
    with merging(outputs_that_differ) as (engine, gate):
        futures = [engine.submit(rows(value=value)) for value in (1, 9, 3, 4)]
        gate.open()
        results = [future.result(PATIENCE_S) for future in futures]
        assert [given["z"].tolist() for given in results] == [[2], [0, 0, 0], [6], [8]]
        assert gate.sizes == [4, 1, 1, 1, 1]


@pytest.mark.on_paddle
@pytest.mark.parametrize("driver", ["native", "python"])
def test_an_id_out_of_range_among_good_ones_fails_its_caller_only(zoo: Zoo, driver: str) -> None:
    directory = zoo.directory("embedding", zoo.formats[0])
    good = [np.random.default_rng(place).integers(0, 50, (2, 6)) for place in range(24)]
    with paddleinfer.Engine(directory, driver=driver, instances=1, batchable=False) as engine:
        alone = [engine.infer([ids]) for ids in good]
    with paddleinfer.Engine(directory, driver=driver, instances=2) as engine:
        before = learn_shapes(engine, good)

        def call(number: int) -> None:
            for turn in range(8):
                futures = [engine.submit([ids]) for ids in good]
                culprit = engine.submit([good[number] + 50 * (np.arange(6) == turn % 6)])
                futures += [engine.submit([ids]) for ids in good]
                with pytest.raises(paddleinfer.ModelError, match=r"Variable value .* expected") as caught:
                    culprit.result(PATIENCE_S)
                assert "\n" not in str(caught.value) and caught.value.__cause__ is not None
                for place, future in enumerate(futures):
                    assert_close(future.result(PATIENCE_S), alone[place % 24])

        run_threads(4, call)
        stats = engine.stats()
    assert stats["errors"] == 4 * 8 and stats["results"] == before["results"] + 4 * 8 * 48
    assert stats["executions"] - before["executions"] < stats["requests"] - before["requests"]


# What is counted


def test_runs_and_ends_add_up_also_when_some_fail() -> None:
    with merging() as (engine, gate):
        before = engine.stats()
        assert before["queued_requests"] == 0 and before["running_executions"] == 1
        good = [engine.submit(rows(count)) for count in (1, 2, 3, 20, 1, 1)]
        bad = [engine.submit(rows(count, -1)) for count in (1, 2, 9)]
        cancelled = engine.submit(rows(2))
        assert cancelled.cancel()
        with pytest.raises(paddleinfer.DeadlineExceeded):
            engine.infer(rows(5), timeout=0.001)
        gate.open()
        assert all(future.result(PATIENCE_S) for future in good)
        assert all(future.exception(PATIENCE_S) for future in bad)
        engine.close()
        stats = engine.stats()
    ends = {"results": len(good) + 1, "errors": 3, "cancelled": 1, "expired": 1, "closed": 0}
    assert {end: stats[end] - before[end] for end in ends} == ends
    assert stats["requests"] == sum(stats[end] for end in ends)
    assert sum(stats["batch_rows"].values()) == stats["executions"]
    assert sum(size * runs for size, runs in stats["batch_rows"].items()) == stats["executed_rows"]
    assert sum(gate.sizes) + 1 == stats["executed_rows"] - before["executed_rows"]
    assert stats["queued_rows"] == stats["queued_bytes"] == stats["running_executions"] == 0
