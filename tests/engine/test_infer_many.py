"""Engine.infer_many: results in order, a bounded number under way, and nothing left when its caller stops."""

from __future__ import annotations

import concurrent.futures as cf
import functools
import gc
import io
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, assert_close, engine_of, eventually, gated, merging, rows
from rich.console import Console
from rich.progress import Progress
from stream_helpers import Pulled, doubled, values
from tqdm import tqdm
from zoo import Zoo

import paddleinfer

# Results


def test_results_come_in_the_order_of_the_items() -> None:
    with engine_of(instances=3) as engine:
        assert values(engine.infer_many(Pulled(500))) == doubled(500)
        assert engine.stats()["results"] == 500
        assert values(engine.infer_many([])) == []
        mixed = [rows(1 + number % 5, number) for number in range(50)]
        for x, results in zip(mixed, engine.infer_many(mixed), strict=True):
            np.testing.assert_array_equal(results["y"], x * 2)


def test_items_under_way_share_runs() -> None:
    with merging() as (engine, gate):
        results = engine.infer_many(Pulled(16))
        with cf.ThreadPoolExecutor(1) as thread:
            first = thread.submit(next, results)
            assert eventually(lambda: engine.stats()["queued_requests"] == 16)
            gate.open()
            assert first.result(PATIENCE_S)["y"][0, 0] == 0
        assert values(results) == doubled(16)[1:]
        assert gate.sizes == [8, 8]


def test_it_takes_what_infer_takes(zoo: Zoo) -> None:
    x = np.random.default_rng(0).standard_normal((3, 16)).astype("float32")
    with paddleinfer.Engine(zoo.directory("mlp", zoo.formats[0]), instances=1) as engine:
        name_in, name_out = engine.inputs[0].name, engine.outputs[0].name
        expected = engine.infer([x])
        given = list(engine.infer_many([{name_in: x}, [x], x, x.astype("float64")], outputs=[name_out]))
        assert len(given) == 4
        for results in given:
            assert_close(results, expected)


def test_results_are_writable_and_alias_nothing() -> None:
    with engine_of() as engine:
        given = list(engine.infer_many([rows(2)] * 10))
        for place, results in enumerate(given):
            assert results["y"].flags.writeable and results["y"].base is None
            results["y"][:] = -1
            assert all((other["y"] == 2).all() for other in given[place + 1 :])


def test_progress_is_told_of_one_more_before_each_result() -> None:
    told: list[int] = []
    with engine_of() as engine:
        for number, _ in enumerate(engine.infer_many(Pulled(20), progress=told.append), 1):
            assert told == [1] * number


def test_progress_drives_a_bar_of_tqdm() -> None:
    with engine_of() as engine, tqdm(total=300, file=io.StringIO()) as bar:
        chunks = [rows(2, number) for number in range(300)]
        for number, _ in enumerate(engine.infer_many(chunks, progress=bar.update), 1):
            assert bar.n == number


def test_progress_drives_a_bar_of_rich() -> None:
    with engine_of() as engine, Progress(console=Console(file=io.StringIO())) as progress:
        task = progress.add_task("rows", total=300)
        advance = functools.partial(progress.advance, task)
        assert values(engine.infer_many(Pulled(300), progress=advance)) == doubled(300)
        assert progress.tasks[0].completed == 300 and progress.finished


def test_what_progress_raises_stops_it() -> None:
    told: list[int] = []

    def raises(count: int) -> None:
        told.append(count)
        if len(told) == 3:
            raise ZeroDivisionError

    given: list[Any] = []
    with engine_of() as engine:
        with pytest.raises(ZeroDivisionError):
            given.extend(engine.infer_many(Pulled(), progress=raises))
        assert len(told) == 3
        assert eventually(
            lambda: engine.stats()["queued_requests"] == engine.stats()["running_executions"] == 0
        )


@pytest.mark.parametrize("wrong", [3, None, "x", {"x": np.zeros((1, 3), "float32")}])
def test_what_is_no_iterable_of_requests_is_refused_in_a_sentence(wrong: Any) -> None:
    with (
        engine_of() as engine,
        pytest.raises(
            paddleinfer.InvalidInput, match=f"iterable whose items .* not one {type(wrong).__name__}"
        ),
    ):
        engine.infer_many(wrong)


# Stopping early


@pytest.mark.parametrize("how", ["break", "close", "drop", "raise"])
def test_stopping_early_cancels_what_is_under_way(how: str) -> None:
    def take_first(results: Iterator[Any]) -> Any:
        if how != "break":
            return next(results)
        for given in results:
            return given

    with merging(max_batch_size=2) as (engine, gate):
        results = engine.infer_many(Pulled(), look_ahead=10)
        with cf.ThreadPoolExecutor(1) as thread:
            first = thread.submit(take_first, results)
            assert eventually(lambda: engine.stats()["queued_requests"] == 10)
            for _ in range(2):  # what it is busy with, and the first run of these
                gate.let_one_through()
            assert first.result(PATIENCE_S)["y"][0, 0] == 0
        blocker = engine.submit(rows(value=1000))
        before = engine.stats()
        if how == "close":
            results.close()
        elif how == "raise":
            with pytest.raises(ZeroDivisionError):
                results.throw(ZeroDivisionError)
        del results
        gc.collect()
        gate.open()
        assert blocker.result(PATIENCE_S)
        stats = engine.stats()
        assert before["requests"] <= stats["requests"] <= before["requests"] + 1
        assert eventually(
            lambda: engine.stats()["queued_requests"] == engine.stats()["running_executions"] == 0
        )
        stats = engine.stats()
        assert stats["requests"] == stats["results"] + stats["cancelled"] and stats["cancelled"] > 0


def test_it_may_be_taken_further_by_another_thread() -> None:
    with engine_of() as engine:
        results = engine.infer_many(Pulled(40))
        seen: list[float] = []

        def take() -> None:
            seen.extend(values(itertools.islice(results, 10)))

        for _ in range(4):
            thread = threading.Thread(target=take)
            thread.start()
            thread.join(PATIENCE_S)
        assert seen == doubled(40)


# Failures


def test_an_iterable_that_raises_is_heard_after_the_results_before_it() -> None:
    with engine_of() as engine:
        results = engine.infer_many(Pulled(10, fails_at=6))
        assert values(itertools.islice(results, 6)) == doubled(6)
        with pytest.raises(KeyError, match="the iterable"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)
        assert engine.stats()["results"] == 6


def test_an_item_that_fails_raises_at_its_place() -> None:
    def fussy(inputs: dict[str, np.ndarray]) -> Any:
        if (inputs["x"] == 4).any():
            raise ValueError("four")
        return {"y": inputs["x"] * 2}

    with engine_of(fussy) as engine:
        results = engine.infer_many(Pulled(20))
        assert values(itertools.islice(results, 4)) == doubled(4)
        with pytest.raises(paddleinfer.ModelError, match="four") as caught:
            next(results)
        assert isinstance(caught.value.__cause__, ValueError)
        assert next(results, None) is None
        assert eventually(
            lambda: engine.stats()["queued_requests"] == engine.stats()["running_executions"] == 0
        )


@pytest.mark.parametrize("wrong", [rows()[0], {}, {"z": rows()}, None])
def test_an_item_that_does_not_fit_the_model_raises_at_its_place(wrong: Any) -> None:
    with engine_of() as engine:
        results = engine.infer_many([rows(value=0), rows(value=1), wrong, rows(value=3)])
        assert values(itertools.islice(results, 2)) == doubled(2)
        with pytest.raises(paddleinfer.InvalidInput):
            next(results)


def test_an_item_that_is_late_raises_at_its_place() -> None:
    with gated() as (engine, _):
        results = engine.infer_many([rows()], timeout=0.02)
        with pytest.raises(paddleinfer.DeadlineExceeded, match=r"0\.02 s"):
            next(results)
    with gated(default_timeout=0.02) as (engine, _):
        results = engine.infer_many([rows()])
        with pytest.raises(paddleinfer.DeadlineExceeded, match=r"0\.02 s"):
            next(results)


def test_after_close_it_says_closed() -> None:
    with engine_of() as engine:
        results = engine.infer_many(Pulled(), look_ahead=2)
        next(results)
    with pytest.raises(paddleinfer.EngineClosed):
        list(results)
    with pytest.raises(paddleinfer.EngineClosed):
        list(engine.infer_many([rows()]))
    assert list(engine.infer_many([])) == []


# On a queue that others fill


@pytest.mark.parametrize("on_full", ["raise", "wait"])
def test_it_waits_for_room_whatever_others_do(on_full: str) -> None:
    with gated(max_queue_rows=4, on_full=on_full) as (engine, gate):
        held = [engine.submit(rows()) for _ in range(4)]
        results = engine.infer_many(Pulled(40))
        with cf.ThreadPoolExecutor(1) as thread:
            taken = thread.submit(values, results)
            assert eventually(lambda: engine.stats()["requests_waiting_for_room"] == 1)
            gate.open()
            assert taken.result(PATIENCE_S) == doubled(40)
        assert all(future.result(PATIENCE_S) for future in held)
        assert engine.stats()["refused"] == 0


def test_several_share_an_engine_with_less_room_than_they_look_ahead() -> None:
    with engine_of(instances=2, max_queue_rows=8) as engine, cf.ThreadPoolExecutor(4) as threads:
        taken = [threads.submit(values, engine.infer_many(Pulled(200))) for _ in range(4)]
        assert all(given.result(PATIENCE_S) == doubled(200) for given in taken)
