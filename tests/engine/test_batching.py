"""Requests that wait run together: how many rows, whose, in which order; with results as if alone."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from engine_helpers import (
    PATIENCE_S,
    Arrays,
    Gate,
    X,
    assert_close,
    double,
    engine_of,
    eventually,
    learn_shapes,
    merging,
    rows,
    run_threads,
)
from zoo import Zoo

import paddleinfer

# Whose rows run together


def test_single_rows_that_wait_run_together_and_each_caller_gets_its_own() -> None:
    with merging() as (engine, gate):
        futures = [engine.submit({"x": rows(value=number)}) for number in range(8)]
        gate.open()
        for number, future in enumerate(futures):
            assert future.result(PATIENCE_S)["y"].tolist() == [[2 * number] * 3]
        assert gate.batches == [list(range(8))]


def test_threads_that_wait_in_infer_share_a_run() -> None:
    with merging() as (engine, gate):
        given: dict[int, np.ndarray] = {}

        def call(number: int) -> None:
            if number == 8:
                assert eventually(lambda: engine.stats()["queued_requests"] == 8)
                gate.open()
            else:
                given[number] = engine.infer({"x": rows(value=number)})["y"]

        run_threads(9, call)
        assert {number: array[0, 0] for number, array in given.items()} == {n: 2 * n for n in range(8)}
        assert gate.sizes == [8]


def test_more_rows_than_a_batch_holds_run_in_the_order_they_came() -> None:
    with merging() as (engine, gate):
        futures = [engine.submit({"x": rows(value=number)}) for number in range(20)]
        gate.open()
        assert [future.result(PATIENCE_S)["y"][0, 0] for future in futures] == [2 * n for n in range(20)]
        assert gate.batches == [list(range(8)), list(range(8, 16)), list(range(16, 20))]


def test_the_nearest_deadline_goes_first() -> None:
    with merging(max_batch_size=2) as (engine, gate):
        patient = [engine.submit({"x": rows(value=number)}, priority=2) for number in range(3)]
        # Real clock: the others are due after ten seconds.
        urgent = engine.submit({"x": rows(value=9)}, timeout=5, priority=2)
        gate.open()
        assert all(future.result(PATIENCE_S) for future in [*patient, urgent])
        assert [value for batch in gate.batches for value in batch] == [9, 0, 1, 2]


def test_requests_of_several_rows_are_counted_by_rows_and_kept_whole() -> None:
    with merging() as (engine, gate):
        counts = [3, 4, 2, 8, 1, 1, 1, 6]
        futures = [engine.submit({"x": rows(count, count)}) for count in counts]
        assert engine.stats()["queued_rows"] == sum(counts)
        gate.open()
        for count, future in zip(counts, futures, strict=True):
            np.testing.assert_array_equal(future.result(PATIENCE_S)["y"], rows(count, 2 * count))
        assert gate.sizes == [7, 2, 8, 3, 6]


def test_max_batch_size_one_runs_each_row_by_itself() -> None:
    with merging(max_batch_size=1) as (engine, gate):
        futures = [engine.submit({"x": rows(value=number)}) for number in range(6)]
        gate.open()
        assert all(future.result(PATIENCE_S) for future in futures)
        assert gate.sizes == [1] * 6


@pytest.mark.parametrize("max_batch_size", [1, 3, 8])
def test_no_run_has_more_rows_than_max_batch_size(max_batch_size: int) -> None:
    sizes: list[int] = []

    def notes(inputs: Arrays) -> Arrays:
        sizes.append(len(inputs["x"]))
        return double(inputs)

    with engine_of(notes, instances=2, max_batch_size=max_batch_size, batchable=True) as engine:

        def call(number: int) -> None:
            rng = np.random.default_rng(number)
            for turn in range(40):
                x = rows(int(rng.integers(1, 12)), float(number * 100 + turn))
                np.testing.assert_array_equal(engine.infer({"x": x})["y"], x * 2)

        run_threads(8, call)
        stats = engine.stats()
    assert max(sizes) <= max_batch_size
    assert sum(sizes) == stats["rows"] == stats["executed_rows"]


def test_a_cancelled_or_late_request_is_not_in_the_batch() -> None:
    with merging() as (engine, gate):
        futures = [engine.submit({"x": rows(value=number)}) for number in range(6)]
        assert futures[2].cancel() and futures[5].cancel()
        with pytest.raises(paddleinfer.DeadlineExceeded):
            engine.infer({"x": rows(value=99)}, timeout=0.001)
        gate.open()
        assert [futures[number].result(PATIENCE_S)["y"][0, 0] for number in (0, 1, 3, 4)] == [0, 2, 6, 8]
        assert gate.batches == [[0, 1, 3, 4]]


def test_who_gives_up_while_its_batch_runs_harms_no_neighbour() -> None:
    with merging() as (engine, gate):
        before, leaves, after = (engine.submit({"x": rows(value=number)}) for number in range(3))
        gate.let_one_through()
        gate.wait_entered()
        assert leaves.running() and not leaves.cancel()
        leaves._handle.give_up()
        assert leaves.cancelled() and not before.done()
        gate.open()
        assert before.result(PATIENCE_S)["y"][0, 0] == 0 and after.result(PATIENCE_S)["y"][0, 0] == 4
        assert gate.batches == [[0, 1, 2]]


def test_arrays_that_are_dropped_while_they_wait_are_read_all_the_same() -> None:
    with merging() as (engine, gate):
        futures = [engine.submit({"x": np.full((1, 3), number, "float32")}) for number in range(40)]
        scribble = [np.full((1, 3), -1, "float32") for _ in range(200)]  # takes freed memory, if there is any
        gate.open()
        assert [future.result(PATIENCE_S)["y"][0, 0] for future in futures] == [2 * n for n in range(40)]
        del scribble


def test_results_of_one_batch_alias_nothing_of_each_other() -> None:
    with merging() as (engine, gate):
        futures = [engine.submit({"x": rows(2, number)}) for number in range(4)]
        gate.open()
        arrays = [future.result(PATIENCE_S)["y"] for future in futures]
        assert gate.sizes == [8]
        for number, array in enumerate(arrays):
            assert array.flags.writeable and array.base is None and array.flags.c_contiguous
            array[:] = -1
            assert all((other == 2 * place).all() for place, other in enumerate(arrays) if place > number)


def three_outputs(gate: Gate, **options: Any) -> paddleinfer.Engine:
    def three(inputs: Arrays) -> list[np.ndarray]:
        gate(inputs)
        return [inputs["x"], inputs["x"][:, 0].astype("int64"), -inputs["x"]]

    return paddleinfer.Engine.from_callable(three, {"x": X}, ["a", "b", "c"], **options)


def test_requests_for_different_outputs_share_a_run() -> None:
    with merging(three_outputs) as (engine, gate):
        chosen: list[Any] = [["b"], None, ["c", "a"]]
        futures = [engine.submit(rows(value=number), outputs=chosen[number]) for number in range(3)]
        gate.open()
        results = [future.result(PATIENCE_S) for future in futures]
        assert gate.batches == [[0, 1, 2]]
    assert [list(given) for given in results] == [["b"], ["a", "b", "c"], ["c", "a"]]
    assert results[0]["b"].tolist() == [0] and results[1]["b"].tolist() == [1]
    assert results[2]["c"].tolist() == [[-2] * 3] and results[2]["a"].tolist() == [[2] * 3]


# Shapes that do not fit together


def test_rows_of_different_shapes_never_share_a_run() -> None:
    seen: list[tuple[int, ...]] = []

    def sums(inputs: Arrays) -> Arrays:
        seen.append(inputs["x"].shape)
        return {"y": inputs["x"].sum(1)}

    description = {"x": ("float32", (-1, -1))}
    with paddleinfer.Engine.from_callable(sums, description, ["y"], batchable=True, instances=2) as engine:

        def call(number: int) -> None:
            for turn in range(60):
                width = 1 + (number + turn) % 4
                x = np.full((1 + turn % 3, width), number, "float32")
                assert engine.infer({"x": x})["y"].tolist() == [number * width] * len(x)

        run_threads(8, call)
        assert {width for _, width in seen} == {1, 2, 3, 4}
        assert sum(count for count, _ in seen) == engine.stats()["rows"]


@pytest.mark.parametrize("name", ["mlp", "conv", "embedding"])
@pytest.mark.parametrize("driver", ["native", "python"])
def test_rows_of_paddle_models_are_in_a_batch_what_they_are_alone(zoo: Zoo, name: str, driver: str) -> None:
    rng = np.random.default_rng(5)

    def drawn(count: int, size: int) -> np.ndarray:
        if name == "embedding":
            return rng.integers(0, 50, (count, 6))
        shape = (count, 16) if name == "mlp" else (count, 3, 6 + size, 12 - size)
        return rng.standard_normal(shape).astype("float32")

    directory = zoo.directory(name, zoo.formats[0])
    given = [drawn(1 + place % 3, place % 4) for place in range(48)]
    with paddleinfer.Engine(directory, driver=driver, instances=1, batchable=False) as engine:
        alone = [engine.infer([x]) for x in given]
    with paddleinfer.Engine(directory, driver=driver, instances=2) as engine:
        before = learn_shapes(engine, given)

        async def asked(places: range) -> list[dict[str, np.ndarray]]:
            """Of one turn of the loop: they are queued together, however fast a run is."""
            return await asyncio.gather(*(engine.ainfer([given[place]]) for place in places))

        def call(number: int) -> None:
            for _ in range(3):
                mine = range(number, 48, 6)
                for place, result in zip(mine, asyncio.run(asked(mine)), strict=True):
                    assert_close(result, alone[place])

        run_threads(6, call)
        stats = engine.stats()
        assert stats["results"] == stats["requests"] == before["requests"] + 144
        assert stats["executions"] < before["executions"] + 144
        assert stats["executed_rows"] == stats["rows"] == before["rows"] + 3 * sum(map(len, given))
        assert engine.effective_config()["batchable"]["value"] == "yes"
