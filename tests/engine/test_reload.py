"""Engine.reload: another model under load, and no caller notices."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ended_requests import assert_all_ended
from engine_helpers import PATIENCE_S, engine_of, eventually, rows, run_threads
from loop_helpers import Run, event_descriptors, on_both_loops, turn_until
from reload_helpers import Background, Meanwhile, Versions, answer, versioned, wait_generation
from zoo import Zoo

import paddleinfer

# Where rows may wait together, requests of up to four batches.
OPTIONS: dict[str, Any] = {"instances": 2, "max_batch_size": 4, "batchable": True}
CALLERS = 4
RELOADS = 6


@contextmanager
def two_models(
    kind: str, zoo: Zoo, **options: Any
) -> Iterator[tuple[paddleinfer.Engine, Callable[[], paddleinfer.ReloadReport], set[float]]]:
    """An engine, what reloads it with another answer, and the answers it may give."""
    options = {**OPTIONS, **options}
    if kind == "function":
        model = Versions()
        # The warm-up has each instance run while its version is current.
        with engine_of(model, warmup=True, **options) as engine:

            def reload() -> paddleinfer.ReloadReport:
                model.current += 1
                return engine.reload()

            yield engine, reload, set(map(float, range(1, RELOADS + 2)))
        return
    paths = [zoo.directory(f"constant-{value}", kind) for value in (1, 2)]
    others = itertools.cycle(reversed(paths))
    with paddleinfer.Engine(paths[0], **options) as engine:
        yield engine, lambda: engine.reload(next(others)), {1.0, 2.0}


def drawn_rows(number: int) -> np.ndarray:
    return rows(1 + 5 * number % 16)


# Into service


@pytest.mark.parametrize("driver", ["native", "python"])
def test_a_reload_puts_another_model_into_service(zoo: Zoo, driver: str) -> None:
    for format in zoo.formats:
        first, second = (zoo.directory(f"constant-{value}", format) for value in (1, 2))
        with paddleinfer.Engine(first, driver=driver, instances=2) as engine:
            assert answer(engine.infer([rows()])) == 1 and engine.stats()["generation"] == 1
            report = engine.reload(second)
            assert (report.generation, report.path, report.drained) == (2, str(second), True)
            assert report.load_ms > 0
            assert answer(engine.infer([rows()])) == 2 and engine.stats()["generation"] == 2
            assert str(second) in repr(engine) and not engine.closed
            assert engine.reload().path == str(second)  # the model in service, read again
            assert answer(engine.infer([rows()])) == 2


def test_a_new_version_at_the_same_path_is_read_again(zoo: Zoo, tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.symlink_to(zoo.directory("constant-1", zoo.formats[0]))
    with paddleinfer.Engine(place, instances=1) as engine:
        place.unlink()
        place.symlink_to(zoo.directory("constant-2", zoo.formats[0]))
        assert answer(engine.infer([rows()])) == 1
        engine.reload()
        assert answer(engine.infer([rows()])) == 2


def test_an_engine_over_a_function_makes_its_instances_anew() -> None:
    with versioned() as (engine, _):
        report = engine.reload()
        assert report.generation == 2 and report.path == "Versions"
        assert answer(engine.infer(rows())) == 2
        with pytest.raises(paddleinfer.ConfigError, match=r"without a path, not with 'other'.*in service"):
            engine.reload("other")


def test_the_options_of_the_engine_hold_for_the_new_model() -> None:
    with versioned(warmup=True, max_batch_size=2, default_timeout=9.0) as (engine, _):
        before = engine.effective_config()
        engine.reload()
        _, info = engine.infer(rows(), return_info=True)
        assert info.predicted_us is not None  # it was warmed up
        assert engine.effective_config() == before


def test_pickling_and_repr_are_as_before() -> None:
    with versioned() as (engine, _):
        before = repr(engine)
        engine.reload()
        assert repr(engine) == before
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(engine)


# Under load


@pytest.mark.parametrize("kind", ["function", pytest.param("json", marks=pytest.mark.paddle3), "legacy"])
def test_no_request_is_lost_or_mixed_while_models_change(zoo: Zoo, kind: str) -> None:
    over = threading.Event()
    given = itertools.count()
    with two_models(kind, zoo) as (engine, reload, allowed):
        seen: set[float] = set()

        def call(number: int) -> None:
            if number == 0:
                for _ in range(RELOADS):
                    made = next(given)
                    assert reload().drained
                    assert eventually(lambda made=made: next(given) > made + 2 * CALLERS)
                over.set()
                return
            for turn in itertools.count(number):
                if over.is_set():
                    return
                x = drawn_rows(turn)
                if number % 3 == 0:
                    seen.add(answer(engine.infer([x])))
                elif number % 3 == 1:
                    futures = [engine.submit([x]) for _ in range(3)]
                    seen.update(answer(future.result(PATIENCE_S)) for future in futures)
                else:
                    seen.update(answer(results) for results in engine.infer_many([[x]] * 3))
                next(given)

        run_threads(1 + CALLERS, call)
        assert seen <= allowed and len(seen) >= 2
        stats = engine.stats()
        assert stats["generation"] == RELOADS + 1
        assert stats["results"] == stats["requests"] and stats["running_executions"] == 0
        assert_all_ended(engine)


@on_both_loops
@pytest.mark.parametrize("kind", ["function", "legacy"])
def test_no_task_is_lost_or_mixed_while_models_change(zoo: Zoo, kind: str, run: Run) -> None:
    async def main() -> None:
        over = False
        seen: set[float] = set()
        before = event_descriptors()
        with two_models(kind, zoo) as (engine, reload, allowed):

            async def call(number: int) -> None:
                for turn in itertools.count(number):
                    if over:
                        return
                    seen.add(answer(await engine.ainfer([drawn_rows(turn)])))

            calls = [asyncio.create_task(call(number)) for number in range(8)]
            for _ in range(RELOADS):
                assert (await asyncio.to_thread(reload)).drained
                results = engine.stats()["results"]
                await turn_until(lambda results=results: engine.stats()["results"] > results + 8)
            over = True
            await asyncio.wait_for(asyncio.gather(*calls), PATIENCE_S)
            assert seen <= allowed and len(seen) >= 2
            assert engine.stats()["results"] == engine.stats()["requests"]
            await turn_until(lambda: event_descriptors() == before + 1)

    run(main())


def test_a_request_in_parts_belongs_to_one_generation() -> None:
    with versioned(max_batch_size=4, batchable=True) as (engine, model):
        model.hold(1)
        future = engine.submit(rows(12))
        model.wait_entered()  # its first part runs
        reloading = Background(engine.reload)
        wait_generation(engine, 2)
        assert answer(engine.infer(rows(12))) == 2
        assert not reloading.ended and engine.stats()["running_executions"] == 1
        model.let_go(1)
        assert answer(future.result(PATIENCE_S)) == 1
        assert reloading.result().drained
        assert engine.stats()["results"] == 3


def test_infer_many_goes_on_with_the_new_model() -> None:
    with versioned() as (engine, _):
        results = engine.infer_many([rows()] * 3, look_ahead=1)
        assert answer(next(results)) == 1
        engine.reload()
        assert [answer(given) for given in results] == [2, 2]


def ask_infer(engine: paddleinfer.Engine, x: Any) -> Any:
    return engine.infer([x])


def ask_submit(engine: paddleinfer.Engine, x: Any) -> Any:
    return engine.submit([x]).result(PATIENCE_S)


def ask_infer_many(engine: paddleinfer.Engine, x: Any) -> Any:
    return next(engine.infer_many([[x]]))


def ask_ainfer(engine: paddleinfer.Engine, x: Any) -> Any:
    return asyncio.run(engine.ainfer([x]))


@pytest.mark.parametrize("ask", [ask_infer, ask_submit, ask_infer_many, ask_ainfer])
@pytest.mark.parametrize("pad", [(), paddleinfer.PadAxis(inputs={"x": 1}, multiple=4)])
def test_a_call_that_is_overtaken_by_a_reload_goes_to_the_new_model(
    ask: Callable[[paddleinfer.Engine, Any], Any], pad: Any
) -> None:
    model = Versions()
    with paddleinfer.Engine.from_callable(model, {"x": ("float32", (-1, -1))}, ["y"], pad=pad) as engine:
        assert answer(engine.infer([rows()])) == 1
        model.current = 2
        assert answer(ask(engine, Meanwhile(engine.reload))) == 2
        assert_all_ended(engine)
        with pytest.raises(paddleinfer.EngineClosed, match="is closed") as caught:
            ask(engine, Meanwhile(engine.close))
        assert not caught.value.accepted


@on_both_loops
def test_tasks_that_are_overtaken_by_a_reload_go_to_the_new_model(run: Run) -> None:
    async def main() -> None:
        before = event_descriptors()
        with versioned() as (engine, model):
            # The old generation meets this loop only after it has closed.
            assert answer(await engine.ainfer([Meanwhile(engine.reload)])) == 2
            model.current = 3
            tasks = [asyncio.create_task(engine.ainfer(rows())) for _ in range(3)]
            asyncio.get_running_loop().call_soon(engine.reload)  # before the turn's requests are queued
            assert [answer(results) for results in await asyncio.gather(*tasks)] == [3, 3, 3]
            await turn_until(lambda: event_descriptors() == before + 1)
        await turn_until(lambda: event_descriptors() == before)

    run(main())


def test_a_warm_up_that_is_overtaken_warms_the_new_model() -> None:
    with versioned() as (engine, _):
        assert list(engine.warmup([Meanwhile(engine.reload)], batch_sizes=[1, 2]).run_us) == [1, 2]
        _, info = engine.infer(rows(2), return_info=True)
        assert info.predicted_us is not None and engine.stats()["generation"] == 2


# The old generation's end


def test_futures_of_the_old_generation_end_with_its_results() -> None:
    with versioned() as (engine, model):
        model.hold(1)
        futures = [engine.submit(rows())]
        model.wait_entered()
        futures += [engine.submit(rows()) for _ in range(19)]
        told: list[float] = []
        for future in futures:
            future.add_done_callback(lambda done: told.append(answer(done.result())))
        reloading = Background(engine.reload)
        wait_generation(engine, 2)
        stats = engine.stats()
        assert stats["queued_requests"] == 19 and stats["running_executions"] == 1
        model.let_go(1)
        assert reloading.result().drained
        assert told == [1] * 20  # the old generation's completion thread has ended with them


def test_what_the_old_generation_cannot_serve_in_time_is_told_so() -> None:
    with versioned() as (engine, model):
        model.hold(1)
        running = Background(lambda: engine.infer(rows()))
        model.wait_entered()
        queued = engine.submit(rows())
        report = engine.reload(timeout=0.05)
        assert not report.drained and report.generation == 2
        for ended in (running, queued):
            with pytest.raises(paddleinfer.EngineClosed, match="before the request ended") as caught:
                ended.result()
            assert caught.value.accepted
        assert answer(engine.infer(rows())) == 2
        assert engine.stats()["closed"] == 2
        assert_all_ended(engine)


def test_a_callback_may_reload() -> None:
    with versioned() as (engine, _):
        reports: list[paddleinfer.ReloadReport] = []
        engine.submit(rows()).add_done_callback(lambda _: reports.append(engine.reload()))
        assert eventually(lambda: reports)
        assert answer(engine.infer(rows())) == 2 and engine.submit(rows()).result(PATIENCE_S)


def test_reloads_go_one_after_the_other() -> None:
    with versioned() as (engine, model):
        model.hold(1)
        future = engine.submit(rows())
        model.wait_entered()
        reloads = [Background(engine.reload) for _ in range(3)]
        wait_generation(engine, 2)
        assert answer(engine.infer(rows())) == 2 and not any(reload.ended for reload in reloads)
        model.let_go(1)
        assert sorted(reload.result().generation for reload in reloads) == [2, 3, 4]
        assert answer(future.result()) == 1
