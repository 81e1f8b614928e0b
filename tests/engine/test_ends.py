"""Every accepted request ends exactly once: through hangs, closing, dropping, and threads that race."""

from __future__ import annotations

import gc
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError

import numpy as np
import pytest
from ended_requests import assert_all_ended, instance_threads
from engine_helpers import (
    PATIENCE_S,
    SOON_S,
    Arrays,
    Gate,
    double,
    engine_of,
    eventually,
    gated,
    rows,
    run_threads,
)
from zoo import Zoo

import paddleinfer
from paddleinfer.testing import EngineOpener, FakePredictor

# Hangs. Real clock: deadlines are what is tested, with room for a slow machine.


def test_a_hung_run_ends_its_callers_at_their_deadlines() -> None:
    with gated() as (engine, _):
        begin = time.monotonic()
        queued = engine.submit({"x": rows()}, timeout=0.05)
        with pytest.raises(paddleinfer.DeadlineExceeded):
            engine.infer({"x": rows()}, timeout=0.05)
        with pytest.raises(paddleinfer.DeadlineExceeded):
            queued.result(PATIENCE_S)
        assert time.monotonic() - begin < SOON_S
        assert engine.stats()["expired"] == 2


def test_the_caller_of_the_hung_run_itself_is_freed_and_others_go_on(
    fake_predictor: Callable[..., FakePredictor], paddle_engine: EngineOpener
) -> None:
    engine = paddle_engine(fake_predictor(hang_on=[-1]), instances=2)
    with pytest.raises(paddleinfer.DeadlineExceeded):
        engine.infer({"x": rows(value=-1)}, timeout=0.05)
    for _ in range(20):
        assert (engine.infer({"x": rows()}, timeout=PATIENCE_S)["y"] == 1).all()


def test_close_gives_up_on_a_hung_run_in_time_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    engine = engine_of(gate)
    running = engine.submit({"x": rows()})
    gate.wait_entered()
    queued = engine.submit({"x": rows()})
    begin = time.monotonic()
    with caplog.at_level(logging.WARNING):
        engine.close(timeout=0.1)
    assert time.monotonic() - begin < SOON_S
    assert "1 instances were still running" in caplog.text and "2 requests were ended" in caplog.text
    for future in (running, queued):
        with pytest.raises(paddleinfer.EngineClosed):
            future.result(PATIENCE_S)
    begin = time.monotonic()
    engine.close()
    assert time.monotonic() - begin < SOON_S
    before = instance_threads()
    gate.open()
    assert eventually(lambda: instance_threads() < before)
    assert_all_ended(engine)


# Closing


def test_close_lets_accepted_requests_end() -> None:
    with gated() as (engine, gate):
        futures = [engine.submit({"x": rows()}) for _ in range(5)]
        closer = threading.Thread(target=engine.close)
        closer.start()
        assert eventually(lambda: engine.closed)
        with pytest.raises(paddleinfer.EngineClosed):
            engine.infer({"x": rows()})
        gate.open()
        closer.join(PATIENCE_S)
        assert all((future.result(PATIENCE_S)["y"] == 2).all() for future in futures)
    assert_all_ended(engine)


def test_close_without_drain_ends_what_has_not_started() -> None:
    with gated() as (engine, gate):
        futures = [engine.submit({"x": rows()}) for _ in range(5)]
        closer = threading.Thread(target=engine.close, kwargs={"drain": False})
        closer.start()
        for future in futures:
            with pytest.raises(paddleinfer.EngineClosed):
                future.result(PATIENCE_S)
        gate.open()
        closer.join(PATIENCE_S)
        assert len(gate.ran) == 1
    assert engine.stats()["results"] == 1
    assert_all_ended(engine)


@pytest.mark.parametrize("drain", [True, False])
def test_closing_under_sixteen_callers_gives_each_call_one_end(drain: bool) -> None:
    engine = engine_of(instances=2)
    ended = [0] * 16

    def call(number: int) -> None:
        while True:
            try:
                assert (engine.infer({"x": rows()})["y"] == 2).all()
            except paddleinfer.EngineClosed:
                return
            ended[number] += 1
            if number == 0 and ended[0] == 50:
                threading.Thread(target=engine.close, args=(drain,)).start()

    run_threads(16, call)
    engine.close()
    assert engine.stats()["results"] == sum(ended)
    assert_all_ended(engine)


def test_several_threads_may_close_at_once() -> None:
    engine = engine_of(instances=3)
    futures = [engine.submit({"x": rows()}) for _ in range(50)]
    run_threads(6, lambda number: engine.close())
    assert all(future.done() for future in futures)
    assert_all_ended(engine)


def test_an_exception_inside_with_closes_the_engine() -> None:
    with pytest.raises(KeyError), engine_of() as engine:
        raise KeyError("x")
    assert engine.closed


# Dropping


def test_a_dropped_engine_ends_its_threads_and_lets_go_of_its_function() -> None:
    def model(inputs: Arrays) -> Arrays:
        return double(inputs)

    before = instance_threads()
    engine = engine_of(model, instances=3)
    engine.infer({"x": rows()})
    engine.submit({"x": rows()}).result(PATIENCE_S)
    reference = weakref.ref(model)
    del engine, model
    assert eventually(lambda: instance_threads() <= before and reference() is None)


def test_futures_of_a_dropped_engine_still_end() -> None:
    gate = Gate()
    engine = engine_of(gate)
    running = engine.submit({"x": rows()})
    gate.wait_entered()
    queued = engine.submit({"x": rows()})
    del engine
    gc.collect()
    with pytest.raises(paddleinfer.EngineClosed):
        queued.result(PATIENCE_S)
    gate.open()
    assert (running.result(PATIENCE_S)["y"] == 2).all()


def test_an_engine_in_a_reference_cycle_is_collected() -> None:
    class Holder:
        engine: paddleinfer.Engine
        own: object

    before = instance_threads()
    holder = Holder()
    holder.engine, holder.own = engine_of(), holder
    holder.engine.infer({"x": rows()})
    del holder
    gc.collect()
    assert eventually(lambda: instance_threads() <= before)


# Several engines


def test_one_engine_closes_while_another_works(zoo: Zoo) -> None:
    directory = zoo.directory("mlp", "legacy")
    x = np.ones((2, 16), "float32")
    with paddleinfer.Engine(directory, instances=1) as stays:
        (expected,) = stays.infer([x]).values()

        def come_and_go(number: int) -> None:
            for _ in range(3):
                with paddleinfer.Engine(directory, instances=2, onednn=bool(number % 2)) as engine:
                    (value,) = engine.infer([x]).values()
                    assert np.allclose(value, expected, rtol=1e-4, atol=1e-5)

        run_threads(8, come_and_go)
        (again,) = stays.infer([x]).values()
    assert (again == expected).all()


# Inputs


class Owner(np.ndarray):
    """An array that can be watched."""


def watched() -> tuple[np.ndarray, weakref.ref[Owner]]:
    owner = rows().view(Owner)
    return owner.view(np.ndarray), weakref.ref(owner)


def test_inputs_are_given_back_after_every_kind_of_end() -> None:
    references = {}

    def fails(inputs: Arrays) -> Arrays:
        raise ValueError("no")

    x, references["result"] = watched()
    with engine_of() as engine:
        engine.infer({"x": x})
    x, references["error"] = watched()
    with engine_of(fails) as engine, pytest.raises(paddleinfer.ModelError):
        engine.infer({"x": x})
    with gated() as (engine, gate):
        x, references["expired"] = watched()
        with pytest.raises(paddleinfer.DeadlineExceeded):
            engine.infer({"x": x}, timeout=0.01)
        x, references["cancelled"] = watched()
        future = engine.submit({"x": x})
        del x
        assert future.cancel()
        assert references["cancelled"]() is None, "a cancelled request gives its input back at once"
        x, references["closed"] = watched()
        future = engine.submit({"x": x})
        closer = threading.Thread(target=engine.close, args=(False,))
        closer.start()
        with pytest.raises(paddleinfer.EngineClosed):
            future.result(PATIENCE_S)
        gate.open()
        closer.join(PATIENCE_S)
    del x
    for end, reference in references.items():
        assert eventually(lambda reference=reference: reference() is None), end


def test_arrays_may_be_dropped_right_after_submit() -> None:
    with gated() as (engine, gate):
        futures = [engine.submit({"x": rows(value=number)}) for number in range(50)]
        gc.collect()
        gate.open()
        for number, future in enumerate(futures):
            assert (future.result(PATIENCE_S)["y"] == 2 * number).all()


# All of it at random


@pytest.mark.parametrize("seed", range(6))
def test_random_submits_cancels_deadlines_and_failures_each_end_once(
    seed: int, fake_predictor: Callable[..., FakePredictor], paddle_engine: EngineOpener
) -> None:
    rng = random.Random(seed)
    settled: list[int] = []
    engine = paddle_engine(fake_predictor(double, fail_on=range(0, 200, 7)), instances=rng.randint(1, 3))
    futures = {}
    close_at = rng.randrange(100, 200)
    for number in range(200):
        if number == close_at:
            threading.Thread(target=engine.close, args=(rng.random() < 0.5,)).start()
        try:
            timeout = rng.choice([None, 0.0, 1e-5, 1e-3, 10.0])
            future = engine.submit({"x": rows(value=number)}, timeout=timeout)
        except paddleinfer.QueueFull:  # it would be late
            continue
        except paddleinfer.EngineClosed:
            break
        future.add_done_callback(lambda _, number=number: settled.append(number))
        futures[number] = future
        if rng.random() < 0.3:
            rng.choice(list(futures.values())).cancel()
    engine.close()
    for number, future in futures.items():
        try:
            results = future.result(PATIENCE_S)
        except (paddleinfer.PaddleInferError, CancelledError):
            continue
        assert number % 7 != 0 and (results["y"] == 2 * number).all()
    assert eventually(lambda: len(settled) == len(futures))
    assert sorted(settled) == list(futures)
