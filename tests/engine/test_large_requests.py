"""A request of more rows than a batch runs in parts, and is one request all the same: one result, one end."""

from __future__ import annotations

import threading
import weakref

import numpy as np
import pytest
from engine_helpers import (
    PATIENCE_S,
    Arrays,
    assert_close,
    engine_of,
    eventually,
    late_while_it_runs,
    merging,
    rows,
    run_threads,
)
from zoo import Zoo

import paddleinfer
from paddleinfer.engine.futures import InferFuture


def numbered(count: int, first: float = 0) -> np.ndarray:
    """Rows that can be told apart."""
    return np.repeat(np.arange(first, first + count, dtype="float32"), 3).reshape(count, 3)


def test_its_parts_come_back_joined_in_order() -> None:
    with merging() as (engine, gate):
        gate.open()
        for count in (9, 16, 17, 100, 1000):
            gate.batches.clear()
            for results in (engine.infer(numbered(count)), engine.submit(numbered(count)).result()):
                np.testing.assert_array_equal(results["y"], numbered(count) * 2)
            assert sum(gate.sizes) == 2 * count and max(gate.sizes) <= 8
        assert engine.stats()["results"] == engine.stats()["requests"]


def test_a_request_of_as_many_rows_as_a_batch_is_not_divided() -> None:
    with merging() as (engine, gate):
        gate.open()
        assert eventually(lambda: engine.stats()["running_executions"] == 0)
        gate.batches.clear()
        engine.infer(rows(8))
        assert gate.sizes == [8]


def test_others_may_run_between_its_parts() -> None:
    with merging() as (engine, gate):
        large = engine.submit(numbered(64), priority=2)
        assert eventually(lambda: engine.stats()["queued_rows"] == 64)
        # Real clock: due after a tenth of a second, and the large one after ten.
        small = engine.submit(rows(value=500), priority=0)
        gate.open()
        assert small.result(PATIENCE_S)["y"][0, 0] == 1000
        np.testing.assert_array_equal(large.result(PATIENCE_S)["y"], numbered(64) * 2)
        with_small = next(place for place, batch in enumerate(gate.batches) if 500 in batch)
        assert with_small < len(gate.batches) - 1


def test_the_rest_of_it_shares_a_run_with_others() -> None:
    with merging() as (engine, gate):
        large = engine.submit(numbered(20))
        small = [engine.submit(rows(value=100 + number)) for number in range(4)]
        gate.open()
        np.testing.assert_array_equal(large.result(PATIENCE_S)["y"], numbered(20) * 2)
        assert [future.result(PATIENCE_S)["y"][0, 0] for future in small] == [200, 202, 204, 206]
        assert sum(gate.sizes) == 24 and len(gate.sizes) == 3
        held = [value for batch in gate.batches for value in batch if value < 100]
        assert held == list(range(20))


def test_threads_with_large_and_small_requests_each_get_their_own() -> None:
    with engine_of(instances=3, max_batch_size=4, batchable=True) as engine:

        def call(number: int) -> None:
            rng = np.random.default_rng(number)
            for turn in range(30):
                x = numbered(int(rng.integers(1, 40)), number * 10_000 + turn * 100)
                np.testing.assert_array_equal(engine.infer(x)["y"], x * 2)

        run_threads(8, call)
        stats = engine.stats()
    assert stats["results"] == stats["requests"] == 240
    assert stats["executed_rows"] == stats["rows"] and max(stats["batch_rows"]) <= 4


@pytest.mark.parametrize("name", ["mlp", "conv"])
@pytest.mark.parametrize("driver", ["native", "python"])
def test_a_large_request_equals_one_run_of_the_plain_model(zoo: Zoo, name: str, driver: str) -> None:
    rng = np.random.default_rng(8)
    shape = (75, 16) if name == "mlp" else (75, 3, 9, 7)
    given = [rng.standard_normal(shape).astype("float32") for _ in range(4)]
    directory = zoo.directory(name, zoo.formats[0])
    with paddleinfer.Engine(directory, driver=driver, instances=1, batchable=False) as engine:
        whole = [engine.infer([x]) for x in given]
        assert engine.stats()["executions"] == 4
        last = engine.outputs[-1].name
    options = {"batchable": True, "max_batch_size": 8}
    with paddleinfer.Engine(directory, driver=driver, instances=2, **options) as engine:

        def call(number: int) -> None:
            for _ in range(3):
                assert_close(engine.infer([given[number]]), whole[number])
                chosen = engine.infer([given[number]], outputs=[last])
                assert_close(chosen, {last: whole[number][last]})
                assert_close(
                    engine.infer([given[number][:1]]),
                    {output: value[:1] for output, value in whole[number].items()},
                )

        run_threads(4, call)
        stats = engine.stats()
    assert max(stats["batch_rows"]) == 8 and stats["executed_rows"] == stats["rows"] == 4 * 3 * 151


# Its one end


def test_cancelled_while_it_waits_it_never_runs() -> None:
    with merging() as (engine, gate):
        future = engine.submit(rows(20, 7))
        assert future.cancel() and engine.stats()["queued_rows"] == 0
        gate.open()
        assert engine.infer(rows())
        assert 7 not in gate.ran


def test_given_up_after_its_first_part_the_rest_never_runs() -> None:
    with merging() as (engine, gate):
        future = engine.submit(numbered(20))
        gate.let_one_through()
        gate.wait_entered()
        assert future.running() and not future.cancel()
        assert engine.stats()["queued_rows"] == 12
        future._handle.give_up()
        assert engine.stats()["queued_rows"] == engine.stats()["queued_bytes"] == 0
        gate.open()
        assert engine.infer(rows(value=50))["y"][0, 0] == 100
        assert gate.batches == [list(range(8)), [50]]


def test_late_after_its_first_part_the_rest_never_runs() -> None:
    with merging() as (engine, gate):
        gate.let_one_through()
        assert eventually(lambda: engine.stats()["running_executions"] == 0)
        before = engine.stats()["requests"]
        future, _ = late_while_it_runs(
            lambda timeout_s: engine.submit(numbered(20), timeout=timeout_s), gate, InferFuture.done
        )
        with pytest.raises(paddleinfer.DeadlineExceeded):
            future.result(PATIENCE_S)
        stats = engine.stats()
        assert stats["queued_rows"] == 0 and stats["expired"] == stats["requests"] - before
        gate.open()
        assert engine.infer(rows(value=50))
        assert gate.batches == [list(range(8)), [50]]


def test_a_part_that_fails_fails_the_whole_and_the_rest_never_runs() -> None:
    with merging() as (engine, gate):
        x = numbered(30)
        x[3] = -1
        future, neighbour = engine.submit(x), engine.submit(rows(value=50))
        gate.open()
        with pytest.raises(paddleinfer.ModelError, match="negative"):
            future.result(PATIENCE_S)
        assert neighbour.result(PATIENCE_S)["y"][0, 0] == 100
        assert engine.infer(rows(value=60))
        stats = engine.stats()
        assert stats["errors"] == 1 and stats["queued_rows"] == 0
        assert sum(gate.sizes) < 30


def test_its_failing_part_harms_no_neighbour_in_the_same_run() -> None:
    with merging() as (engine, gate):
        x = numbered(12)
        x[11] = -1
        future = engine.submit(x)
        neighbours = [engine.submit(rows(value=50 + number)) for number in range(4)]
        gate.open()
        assert isinstance(future.exception(PATIENCE_S), paddleinfer.ModelError)
        assert [neighbour.result(PATIENCE_S)["y"][0, 0] for neighbour in neighbours] == [100, 102, 104, 106]


def test_close_lets_all_its_parts_run_and_without_drain_ends_it_at_once() -> None:
    for drain in (True, False):
        with merging() as (engine, gate):
            waiting = engine.submit(numbered(40))
            closer = threading.Thread(target=engine.close, args=(drain,))
            closer.start()
            assert eventually(lambda: engine.closed)
            if drain:
                gate.open()
                np.testing.assert_array_equal(waiting.result(PATIENCE_S)["y"], numbered(40) * 2)
            else:
                with pytest.raises(paddleinfer.EngineClosed):
                    waiting.result(PATIENCE_S)
                gate.open()
            closer.join(PATIENCE_S)


def test_close_without_drain_in_the_middle_ends_it_once() -> None:
    with merging() as (engine, gate):
        future = engine.submit(numbered(40))
        gate.let_one_through()
        gate.wait_entered()
        closer = threading.Thread(target=engine.close, args=(False,))
        closer.start()
        with pytest.raises(paddleinfer.EngineClosed):
            future.result(PATIENCE_S)
        gate.open()
        closer.join(PATIENCE_S)
        assert gate.sizes == [8]


def test_its_input_is_given_back_after_every_kind_of_end() -> None:
    class Owner(np.ndarray):
        """An array that can be watched."""

    kept = {}

    def watched(end: str, x: np.ndarray) -> np.ndarray:
        owner = x.view(Owner)
        kept[end] = weakref.ref(owner)
        return owner.view(np.ndarray)

    with merging() as (engine, gate):
        ends = ("result", "cancelled", "given up")
        futures = {end: engine.submit(watched(end, numbered(30))) for end in ends}
        failing = numbered(30)
        failing[10] = -1
        futures["error"] = engine.submit(watched("error", failing))
        del failing
        assert futures["cancelled"].cancel()
        gate.let_one_through()
        gate.wait_entered()
        futures["given up"]._handle.give_up()
        gate.open()
        assert futures["result"].result(PATIENCE_S) and futures["error"].exception(PATIENCE_S)
        for end, reference in kept.items():
            assert eventually(lambda reference=reference: (engine.stats(), reference() is None)[1]), end


def test_a_model_whose_parts_cannot_be_joined_runs_the_request_whole() -> None:
    def mean(inputs: Arrays) -> Arrays:
        return {"y": inputs["x"].mean(0)}

    with engine_of(mean, max_batch_size=4, batchable=True) as engine:
        for _ in range(2):
            assert engine.infer(numbered(9))["y"].tolist() == [4] * 3
        assert engine.submit(rows(3)).result(PATIENCE_S)["y"].shape == (3,)
        report = engine.effective_config()["batchable"]
        assert report["value"] == "no" and "output y has the shape [3]" in report["note"]
