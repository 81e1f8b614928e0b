"""The cache of results: equal requests are answered without a run, and nobody notices anything else."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Arrays, X, double, engine_of, eventually, gated, rows, run_threads
from loop_helpers import Run, on_both_loops, turn_until
from reload_helpers import Background, answer, versioned
from zoo import Zoo

import paddleinfer
from paddleinfer.errors import Cancelled, ConfigError, DeadlineExceeded, EngineClosed, ModelError

ROOMY = 1 << 20

COUNTERS = ("cache_hits", "cache_coalesced", "cache_misses")


def counted(engine: paddleinfer.Engine) -> tuple[int, ...]:
    """Hits, coalesced, misses."""
    stats = engine.stats()
    return tuple(stats[name] for name in COUNTERS)


class Counting:
    """Doubles, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.inputs: list[np.ndarray] = []

    def __call__(self, inputs: Arrays) -> Arrays:
        self.inputs.append(inputs["x"].copy())
        return double(inputs)

    @property
    def runs(self) -> int:
        return len(self.inputs)


@contextmanager
def counting(**options: Any) -> Iterator[tuple[paddleinfer.Engine, Counting]]:
    model = Counting()
    with engine_of(model, **{"cache_bytes": ROOMY, "batchable": True, **options}) as engine:
        yield engine, model


# Calls


def test_without_cache_bytes_every_request_runs_and_nothing_is_counted() -> None:
    with counting(cache_bytes=0) as (engine, model):
        for _ in range(3):
            engine.infer(rows())
        assert model.runs == 3
        assert counted(engine) == (0, 0, 0)
        assert engine.stats()["cache_bytes"] == 0


def test_every_call_is_answered_by_a_result_that_is_kept() -> None:
    async def awaited(engine: paddleinfer.Engine) -> Arrays:
        return await engine.ainfer({"x": rows()})

    with counting() as (engine, model):
        given = [engine.infer(rows()), engine.submit([rows()]).result(PATIENCE_S)]
        given += [asyncio.run(awaited(engine)), *engine.infer_many([rows(), rows()])]
        assert model.runs == 1
        assert counted(engine) == (4, 0, 1)
        for results in given:
            np.testing.assert_array_equal(results["y"], rows(value=2))


def test_results_are_writable_and_alias_nobodys() -> None:
    with counting() as (engine, _):
        first = engine.infer(rows())["y"]
        first[:] = -1
        second = engine.infer(rows())["y"]
        second[:] = -2
        np.testing.assert_array_equal(engine.infer(rows())["y"], rows(value=2))
        assert not np.shares_memory(first, second)


def test_inputs_that_differ_in_anything_are_not_equal() -> None:
    with counting(strict_dtypes=False) as (engine, model):
        asked = [
            rows(),
            rows(2),
            rows(value=2),
            rows(value=0.0),
            rows(value=-0.0),  # equal to the one before, and of other bytes
            rows(value=np.nextafter(np.float32(1), np.float32(2))),
        ]
        for x in asked:
            np.testing.assert_array_equal(engine.infer(x)["y"], x * 2)
        assert model.runs == len(asked)
        engine.infer(rows().astype("float64"))  # converted, it is the first
        assert model.runs == len(asked)


def test_the_bounds_between_inputs_belong_to_the_key() -> None:
    """Two inputs whose bytes, one after the other, are those of another request."""
    inputs = {"a": ("uint8", (-1, -1)), "b": ("uint8", (-1, -1))}

    def lengths(arrays: Arrays) -> Arrays:
        shape = [[arrays["a"].shape[1], arrays["b"].shape[1]]]
        return {"y": np.array(shape * len(arrays["a"]), "int64")}

    with paddleinfer.Engine.from_callable(lengths, inputs, ["y"], cache_bytes=ROOMY) as engine:
        for a, b in ((1, 3), (2, 2), (3, 1)):
            asked = {"a": np.zeros((1, a), "uint8"), "b": np.zeros((1, b), "uint8")}
            assert engine.infer(asked)["y"].tolist() == [[a, b]]


def test_other_outputs_are_another_result_and_come_under_the_names_asked_for() -> None:
    def both(arrays: Arrays) -> Arrays:
        return {"y": arrays["x"] * 2, "z": arrays["x"] * 3}

    with paddleinfer.Engine.from_callable(both, {"x": X}, ["y", "z"], cache_bytes=ROOMY) as engine:
        for outputs in (None, ["z"], ["y"], ["z", "y"], None, ["z"]):
            results = engine.infer(rows(), outputs=outputs)
            assert list(results) == (outputs or ["y", "z"])
            for name, array in results.items():
                np.testing.assert_array_equal(array, rows(value={"y": 2, "z": 3}[name]))
        assert counted(engine) == (2, 0, 4)


@pytest.mark.parametrize("driver", ["native", "python"])
def test_a_model_of_paddle_answers_out_of_the_cache_what_it_gave(zoo: Zoo, driver: Any) -> None:
    with paddleinfer.Engine(zoo.directory("mlp", zoo.formats[0]), cache_bytes=ROOMY, driver=driver) as engine:
        x = np.linspace(0, 1, 32, dtype="float32").reshape(2, 16)
        first, second = engine.infer(x), engine.infer(x)
        assert counted(engine) == (1, 0, 1)
        for output, array in first.items():
            np.testing.assert_array_equal(second[output], array)


def test_a_hit_says_that_nothing_ran() -> None:
    with counting() as (engine, _):
        engine.infer(rows(2))
        _, info = engine.infer(rows(2), return_info=True)
        assert (info.dispatch_reason, info.run, info.batch_rows, info.rows) == ("cached", 0, 0, 2)
        assert (info.queue_us, info.run_us) == (0, 0)
        future = engine.submit(rows(2))
        future.result(PATIENCE_S)
        assert future.info is not None and future.info.dispatch_reason == "cached"
        assert engine.stats()["cache_hit_ns"] > 0
        verdict = engine.diagnose()
        assert verdict.requests == 3


def test_padded_requests_of_one_content_share_a_result_and_are_cropped_apart() -> None:
    def double_all(arrays: Arrays) -> Arrays:
        return {"y": arrays["x"] * 2}

    pad = paddleinfer.PadAxis(inputs={"x": 1}, outputs={"y": 1}, multiple=4)
    inputs = {"x": ("float32", (-1, -1))}
    with paddleinfer.Engine.from_callable(
        double_all, inputs, ["y"], cache_bytes=ROOMY, pad=pad, batchable=True
    ) as engine:
        short, long = np.ones((1, 2), "float32"), np.array([[1, 1, 0]], "float32")
        assert engine.infer(short)["y"].tolist() == [[2, 2]]
        assert engine.infer(long)["y"].tolist() == [[2, 2, 0]]
        assert counted(engine) == (1, 0, 1)


@on_both_loops
def test_large_inputs_of_a_loop_have_the_key_that_small_calls_give_them(run: Run) -> None:
    async def twice(engine: paddleinfer.Engine) -> None:
        large = np.ones((1 << 17, 3), "float32")
        for x in (large, large.astype("float64")):
            results = await engine.ainfer(x)
            assert results["y"].shape == x.shape

    with counting(max_batch_size=1 << 18, cache_bytes=16 * ROOMY) as (engine, model):
        engine.infer(np.ones((1 << 17, 3), "float32"), outputs=["y"])
        run(twice(engine))
        assert model.runs == 1


# One run for those that wait together


def test_equal_requests_that_wait_together_take_one_run() -> None:
    with gated(cache_bytes=ROOMY, batchable=False) as (engine, gate):
        futures = [engine.submit(rows(value=7)) for _ in range(5)]
        other = engine.submit(rows(value=8))
        gate.open()
        results = [future.result(PATIENCE_S)["y"] for future in futures]
        for array in results:
            np.testing.assert_array_equal(array, rows(value=14))
        np.testing.assert_array_equal(other.result(PATIENCE_S)["y"], rows(value=16))
        assert gate.ran == [-1, 7, 8]
        assert counted(engine)[1] == 4
        assert not any(np.shares_memory(results[0], array) for array in results[1:])
        reasons = [future.info.dispatch_reason for future in futures if future.info is not None]
        assert reasons[1:] == ["coalesced"] * 4


def test_one_that_waits_for_an_equal_one_has_its_own_deadline() -> None:
    with gated(cache_bytes=ROOMY, batchable=False) as (engine, gate):
        patient = engine.submit(rows(value=7), priority=0)
        gate.let_one_through()
        gate.wait_entered()  # the patient one runs now, so nothing is gained by not waiting for it
        with pytest.raises(DeadlineExceeded):
            engine.infer(rows(value=7), timeout=0.01)
        late = engine.submit(rows(value=7), timeout=0.01)
        assert isinstance(late.exception(PATIENCE_S), DeadlineExceeded)
        gate.open()
        np.testing.assert_array_equal(patient.result(PATIENCE_S)["y"], rows(value=14))
        assert gate.ran == [-1, 7]


def test_one_that_is_cancelled_leaves_the_others() -> None:
    with gated(cache_bytes=ROOMY, batchable=False) as (engine, gate):
        first, second, third = (engine.submit(rows(value=7)) for _ in range(3))
        assert second.cancel()
        assert first.cancel()  # for which they wait
        with pytest.raises(Cancelled):
            second.result(PATIENCE_S)
        gate.open()
        np.testing.assert_array_equal(third.result(PATIENCE_S)["y"], rows(value=14))
        assert gate.ran == [-1, 7]


@on_both_loops
def test_a_task_that_is_cancelled_leaves_the_others(run: Run) -> None:
    async def main(engine: paddleinfer.Engine, gate: Any) -> None:
        tasks = [asyncio.ensure_future(engine.ainfer(rows(value=7))) for _ in range(3)]
        await turn_until(lambda: engine.stats()["requests"] == 4)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        gate.open()
        for task in tasks[1:]:
            np.testing.assert_array_equal((await task)["y"], rows(value=14))
        assert gate.ran == [-1, 7]

    with gated(cache_bytes=ROOMY, batchable=False) as (engine, gate):
        run(main(engine, gate))


def test_a_failure_is_not_kept_and_fails_nobody_else() -> None:
    calls = 0

    def fails_once(inputs: Arrays) -> Arrays:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("not yet")
        return double(inputs)

    with engine_of(fails_once, cache_bytes=ROOMY, batchable=False, check=False) as engine:
        with pytest.raises(ModelError, match="not yet"):
            engine.infer(rows())
        np.testing.assert_array_equal(engine.infer(rows())["y"], rows(value=2))
        assert calls == 2


def test_when_the_one_that_others_wait_for_fails_they_run_themselves() -> None:
    entered, go_on = threading.Semaphore(0), threading.Event()
    calls: list[float] = []

    def first_fails(inputs: Arrays) -> Arrays:
        calls.append(float(inputs["x"][0, 0]))
        entered.release()
        assert go_on.wait(PATIENCE_S)
        if len(calls) == 1:
            raise ValueError("only this time")
        return double(inputs)

    with engine_of(first_fails, cache_bytes=ROOMY, batchable=False) as engine:
        futures = [engine.submit(rows(value=7)) for _ in range(3)]
        assert entered.acquire(timeout=PATIENCE_S)
        go_on.set()
        assert isinstance(futures[0].exception(PATIENCE_S), ModelError)
        for future in futures[1:]:
            np.testing.assert_array_equal(future.result(PATIENCE_S)["y"], rows(value=14))


def test_a_more_urgent_request_does_not_wait_for_one_in_the_queue() -> None:
    with gated(cache_bytes=ROOMY, batchable=False) as (engine, gate):
        relaxed = engine.submit(rows(value=7), priority=2)
        between = engine.submit(rows(value=8))
        urgent = engine.submit(rows(value=7), priority=0)
        gate.open()
        for future, value in ((relaxed, 14), (between, 16), (urgent, 14)):
            np.testing.assert_array_equal(future.result(PATIENCE_S)["y"], rows(value=value))
        assert gate.ran[:3] == [-1, 7, 8]
        assert urgent.info is not None and urgent.info.dispatch_reason != "coalesced"


# The end, and reload


def test_a_new_generation_starts_with_nothing_and_gets_nothing_of_the_old_ones_runs() -> None:
    with versioned(cache_bytes=ROOMY, batchable=False) as (engine, model):
        assert answer(engine.infer(rows())) == 1
        assert counted(engine) == (1, 0, 1)
        model.hold(1)
        old = engine.submit(rows(value=5))
        model.wait_entered()
        reload = Background(engine.reload)
        assert eventually(lambda: engine.generation == 2)
        assert engine.stats()["cache_entries"] == 1  # the old one's, as long as it drains
        assert answer(engine.infer(rows())) == 2
        assert answer(engine.infer(rows(value=5))) == 2
        model.let_go(1)
        assert answer(old.result(PATIENCE_S)) == 1
        reload.result()
        assert answer(engine.infer(rows(value=5))) == 2
        assert engine.stats()["cache_entries"] == 2
        assert counted(engine) == (2, 0, 4)


def test_close_ends_those_that_wait_for_an_equal_one() -> None:
    with gated(cache_bytes=ROOMY, batchable=False) as (engine, gate):
        futures = [engine.submit(rows(value=7)) for _ in range(3)]
        closing = Background(lambda: engine.close(drain=False))
        for future in futures:
            assert isinstance(future.exception(PATIENCE_S), EngineClosed)
        gate.open()
        closing.result()


@pytest.mark.parametrize("value", [-1, 1.5, True, "1 MiB", None])
def test_a_size_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"cache_bytes must be an integer from 0 to"):
        engine_of(cache_bytes=value)


# Under threads


@pytest.mark.stress
def test_threads_that_ask_cancel_and_reload_get_the_answers_of_their_own_inputs(
    stress_seconds: float,
) -> None:
    until = time.monotonic() + stress_seconds

    def slowly(inputs: Arrays) -> Arrays:
        time.sleep(0.0005)
        if (inputs["x"] == 3).any():
            raise ValueError("three")
        return double(inputs)

    with engine_of(slowly, instances=2, cache_bytes=20_000, batchable=True, max_queue_rows=64) as engine:

        def ask(number: int) -> None:
            rng = random.Random(number)
            while time.monotonic() < until:
                value = rng.randrange(40)
                x = rows(rng.choice((1, 1, 2, 40)), value)
                timeout = rng.choice((None, None, 0.002, PATIENCE_S))
                try:
                    if rng.random() < 0.3:
                        future = engine.submit(x, timeout=timeout, priority=rng.randrange(3))
                        if rng.random() < 0.3:
                            future.cancel()
                        results = future.result(PATIENCE_S)
                    else:
                        results = engine.infer(x, timeout=timeout, priority=rng.randrange(3))
                except ModelError:
                    assert value == 3
                except (DeadlineExceeded, Cancelled, paddleinfer.QueueFull):
                    continue
                else:
                    assert value != 3
                    np.testing.assert_array_equal(results["y"], x * 2)

        def reload(_: int) -> None:
            while time.monotonic() < until:
                engine.reload()
                time.sleep(0.02)

        run_threads(9, lambda number: reload(0) if number == 0 else ask(number))
        stats = engine.stats()
        ends = ("results", "errors", "cancelled", "expired", "shed", "closed")
        assert stats["requests"] == sum(stats[end] for end in ends)
        assert stats["closed"] == 0
        assert stats["cache_hits"] > 0 and stats["cache_coalesced"] > 0
        assert stats["cache_bytes"] <= 2 * 20_000  # of two generations at most
