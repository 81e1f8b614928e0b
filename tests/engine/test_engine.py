"""Calling an engine: results, outputs, options, limits, and functions that misbehave."""

from __future__ import annotations

import copy
import gc
import json
import logging
import pickle
import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from engine_helpers import PATIENCE_S, X, double, echo_engine, engine_of, eventually, gated, rows, run_threads
from zoo import Zoo

import paddleinfer
from paddleinfer import _ext

# Results


@pytest.mark.parametrize("dtype", _ext.DTYPE_NAMES)
@pytest.mark.parametrize("shape", [(2, 3), (1,), (3, 1, 2, 2)])
def test_every_dtype_comes_through_bit_by_bit(dtype: str, shape: tuple[int, ...]) -> None:
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    bits = np.random.default_rng(1).integers(
        0, 2 if dtype == "bool" else 256, (*shape, kind.itemsize), "uint8"
    )
    x = bits.view(kind).reshape(shape)
    with echo_engine(dtype, (-1, *shape[1:])) as engine:
        for results in (engine.infer({"x": x}), engine.submit({"x": x}).result()):
            y = results["y"]
            assert y.dtype == kind and y.shape == shape and y.tobytes() == x.tobytes()


def test_results_are_writable_own_their_memory_and_alias_nothing() -> None:
    kept: list[np.ndarray] = []

    def keeps(inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        kept.append(inputs["x"])
        return [inputs["x"], inputs["x"]]

    x = rows(4)
    with paddleinfer.Engine.from_callable(keeps, {"x": X}, ["a", "b"]) as engine:
        first, second = engine.infer({"x": x}), engine.submit({"x": x}, outputs=["a", "b", "a"]).result()
        arrays = [x, *kept, *first.values(), *second.values()]
        for place, array in enumerate(arrays):
            assert array.flags.writeable and (array.base is None or array is x)
            assert not any(np.shares_memory(array, other) for other in arrays[:place])
            array[:] = place
        assert [array.flat[0] for array in arrays] == list(range(len(arrays)))


def test_a_model_that_writes_to_its_input_does_not_write_to_its_callers() -> None:
    def in_place(inputs: dict[str, np.ndarray]) -> np.ndarray:
        inputs["x"] *= 2
        inputs.clear()
        return np.zeros(1)

    with engine_of(in_place) as engine:
        x = rows(2)
        engine.infer({"x": x})
        np.testing.assert_array_equal(x, rows(2))


def test_an_input_that_the_model_keeps_stays_as_it_was() -> None:
    kept: list[np.ndarray] = []

    def keeps(inputs: dict[str, np.ndarray]) -> np.ndarray:
        kept.append(inputs["x"])
        return inputs["x"][:, 0]

    engine = engine_of(keeps)
    for value in range(20):
        engine.infer(rows(value + 1, value))
    engine.close()
    del engine
    gc.collect()
    for value, x in enumerate(kept):
        np.testing.assert_array_equal(x, rows(value + 1, value))


def test_scalar_outputs_and_outputs_of_other_rows_come_as_they_are() -> None:
    def outputs(inputs: dict[str, np.ndarray]) -> dict[str, Any]:
        x = inputs["x"]
        return {
            "same": x,
            "mean": x.mean(),
            "three": np.arange(3),
            "none": np.zeros((0, 4)),
            "flag": True,
            "list": [1.5],
        }

    names = ["same", "mean", "three", "none", "flag", "list"]
    with paddleinfer.Engine.from_callable(outputs, {"x": X}, names) as engine:
        results = engine.infer(rows(2))
    assert list(results) == names
    assert {name: array.shape for name, array in results.items()} == {
        "same": (2, 3), "mean": (), "three": (3,), "none": (0, 4), "flag": (), "list": (1,),
    }  # fmt: skip
    assert results["mean"] == 1 and results["flag"].dtype == bool and results["list"].tolist() == [1.5]


def test_layouts_of_a_functions_outputs_do_not_matter() -> None:
    base = np.arange(12, dtype="float32").reshape(3, 4)
    frozen = base.copy()
    frozen.flags.writeable = False
    given = [
        base.T,
        base[::-1],
        np.broadcast_to(base[0], (5, 4)),
        np.asfortranarray(base),
        frozen,
        base.view(np.matrix),
    ]
    names = [f"y{place}" for place in range(len(given))]
    with paddleinfer.Engine.from_callable(lambda _: given, {"x": X}, names) as engine:
        results = engine.infer(rows())
    for array, expected in zip(results.values(), given, strict=True):
        np.testing.assert_array_equal(array, expected)
        assert type(array) is np.ndarray and array.flags.c_contiguous


def test_only_the_chosen_outputs_are_given_in_the_chosen_order() -> None:
    with paddleinfer.Engine.from_callable(
        lambda i: [i["x"], i["x"] + 1, i["x"] + 2], {"x": X}, ["a", "b", "c"]
    ) as engine:
        for chosen in (["c", "a"], ("b",), ["c", "b", "a"], ["a", "a"]):
            for results in (
                engine.infer(rows(), outputs=chosen),
                engine.submit(rows(), outputs=chosen).result(),
            ):
                assert list(results) == list(dict.fromkeys(chosen))
                assert all(array[0, 0] == 1 + "abc".index(name) for name, array in results.items())


@pytest.mark.parametrize("outputs", [[], (), ["z"], ["y", "z"], "y", b"y", {"y"}, 3, [None], [["y"]]])
def test_a_wrong_choice_of_outputs_is_refused(outputs: Any) -> None:
    with engine_of() as engine:
        for call in (engine.infer, engine.submit):
            with pytest.raises(paddleinfer.InvalidInput, match="output"):
                call(rows(), outputs=outputs)
        assert engine.stats()["requests"] == 0


def test_a_list_of_outputs_that_its_caller_reuses_does_not_change_the_request() -> None:
    with gated() as (engine, gate):
        names = ["y"]
        futures = [engine.submit(rows(), outputs=names) for _ in range(2)]
        names[0] = "other"
        names.append("more")
        gate.open()
        assert [list(future.result()) for future in futures] == [["y"], ["y"]]


def test_many_threads_get_their_own_results() -> None:
    with engine_of(instances=3) as engine:

        def call(number: int) -> None:
            for turn in range(50):
                value = float(number * 1000 + turn)
                results = engine.infer(rows(1 + turn % 5, value))["y"]
                np.testing.assert_array_equal(results, rows(1 + turn % 5, value) * 2)

        run_threads(16, call)
        stats = engine.stats()
    assert stats["results"] == stats["requests"] == 16 * 50
    assert stats["executed_rows"] == stats["rows"] == 16 * sum(1 + turn % 5 for turn in range(50))


# On Paddle


def test_aliases_work_beside_the_real_names(zoo: Zoo, tmp_path: Path) -> None:
    source = zoo.directory("mlp", "legacy")
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with paddleinfer.Engine(source, instances=1) as plain:
        name_in, name_out = plain.inputs[0].name, plain.outputs[0].name
        expected = plain.infer([np.ones((2, 16), "float32")])[name_out]
    (tmp_path / "serving_server_conf.prototxt").write_text(
        f'feed_var {{ name: "{name_in}" alias_name: "features" feed_type: 1 shape: 16 }}\n'
        f'fetch_var {{ name: "{name_out}" alias_name: "score" fetch_type: 1 shape: 4 }}\n'
    )
    x = np.ones((2, 16), "float32")
    with paddleinfer.Engine(tmp_path, instances=1) as engine:
        assert engine.inputs[0].alias == "features" and engine.outputs[0].alias == "score"
        for feed in ("features", name_in):
            for fetch in ("score", name_out):
                results = engine.infer({feed: x}, outputs=[fetch])
                np.testing.assert_array_equal(results[fetch], expected)
        both = engine.infer({"features": x}, outputs=["score", name_out])
        assert list(both) == ["score", name_out] and not np.shares_memory(*both.values())
        assert list(engine.infer({"features": x})) == [name_out]
        with pytest.raises(paddleinfer.InvalidInput, match="same input"):
            engine.infer({"features": x, name_in: x})
        with pytest.raises(paddleinfer.InvalidInput, match=f"no output 'z'; the model has {name_out}, score"):
            engine.infer({"features": x}, outputs=["z"])


@pytest.mark.parametrize("driver", ["native", "python"])
def test_paddles_results_belong_to_the_caller(zoo: Zoo, driver: str) -> None:
    x = np.ones((2, 16), "float32")
    with paddleinfer.Engine(
        zoo.directory("mlp", "legacy"), driver=driver, onednn=False, instances=1
    ) as engine:
        expected = engine.infer([x])
        for _ in range(10):  # inline from the fourth on
            results = engine.infer([x])
            for name, array in results.items():
                np.testing.assert_array_equal(array, expected[name])
                assert array.flags.writeable and array.base is None
                array[:] = np.nan
        assert (x == 1).all()


def test_a_lone_request_of_more_rows_than_may_wait_runs_inline_too(zoo: Zoo) -> None:
    with paddleinfer.Engine(
        zoo.directory("mlp", "legacy"), onednn=False, instances=1, max_queue_rows=4
    ) as engine:

        def has_run_inline() -> bool:  # as it does while runs are predicted to be short
            engine.infer([np.ones((4, 16), "float32")])
            return bool(engine.stats()["inline_executions"])

        assert eventually(has_run_inline)
        (result,) = engine.infer([np.ones((5, 16), "float32")]).values()
        assert len(result) == 5


# Looking


def test_repr_names_the_model_its_tensors_and_its_state() -> None:
    engine = engine_of(instances=2)
    assert repr(engine) == "<Engine 'double': x -> y, instances=2, open>"
    assert not engine.closed
    engine.close()
    assert repr(engine).endswith("closed>") and engine.closed
    assert [tensor.name for tensor in engine.inputs] == ["x"] and engine.inputs[0].shape == (-1, 3)
    assert [tensor.name for tensor in engine.outputs] == ["y"]


@pytest.mark.parametrize("copying", [pickle.dumps, copy.copy, copy.deepcopy])
def test_an_engine_cannot_be_pickled_or_copied_and_says_what_to_do(copying: Any) -> None:
    with engine_of() as engine, pytest.raises(TypeError, match="create one in the other process"):
        copying(engine)


def test_stats_add_up() -> None:
    with gated(max_queue_rows=4, max_batch_size=2) as (engine, gate):
        results = [engine.submit(rows(2)), engine.submit(rows(1))]
        assert engine.submit(rows(1)).cancel()
        with pytest.raises(paddleinfer.DeadlineExceeded):
            engine.infer(rows(1), timeout=0)
        with pytest.raises(paddleinfer.QueueFull):
            engine.infer(rows(2))
        stats = engine.stats()
        assert (stats["queued_requests"], stats["queued_rows"], stats["queued_bytes"]) == (2, 3, 36)
        assert stats["running_executions"] == 1 and stats["executions"] == 0
        gate.open()
        for future in results:
            future.result()
        stats = engine.stats()
    batch_rows = stats.pop("batch_rows")
    durations = [stats.pop(name) for name in ("queue_ns_counts", "result_ns_counts")]
    assert [sum(counts.values()) for counts in durations] == [3, 3]
    assert all(isinstance(value, int) and value >= 0 for value in stats.values())
    expected = {
        "requests": 5,
        "rows": 6,
        "results": 3,
        "cancelled": 1,
        "expired": 1,
        "refused": 1,
        "errors": 0,
        "closed": 0,
    }
    assert expected.items() <= stats.items()
    assert stats["requests"] == sum(
        stats[end] for end in ("results", "errors", "cancelled", "expired", "closed")
    )
    assert stats["queued_requests"] == stats["queued_rows"] == stats["queued_bytes"] == 0
    assert stats["executions"] == 3 and stats["run_ns"] > 0 and stats["queue_ns"] > 0
    assert stats["executed_rows"] == 4 and batch_rows == {1: 2, 2: 1}


def test_effective_config_reports_every_option_that_a_function_takes() -> None:
    with engine_of() as engine:
        report = engine.effective_config()
    assert {
        "instances",
        "batchable",
        "max_queue_rows",
        "max_queue_bytes",
        "strict_dtypes",
        "default_timeout",
    } <= set(report)
    assert report["instances"]["value"] == 1 and report["instances"]["source"] == "auto"
    assert report["max_queue_rows"] == {"value": 4096, "source": "default"}
    given = {
        "instances": 2,
        "batchable": False,
        "max_queue_rows": 7,
        "max_queue_bytes": 8,
        "strict_dtypes": True,
        "default_timeout": 9.0,
    }
    with engine_of(**given) as engine:
        report = engine.effective_config()
        json.dumps(report)
        report["instances"]["value"] = 3  # a copy
        assert engine.effective_config()["instances"]["value"] == 2
    assert all(report[name]["source"] == "option" for name in given)
    assert report["batchable"]["value"] == "no" and report["default_timeout"]["value"] == 9.0


def test_engines_and_their_ends_are_logged_under_paddleinfer(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "paddleinfer"), engine_of():
        pass
    assert any("is open" in record.message for record in caplog.records)
    assert all(record.name.split(".")[0] == "paddleinfer" for record in caplog.records)


def test_threads_carry_the_products_name() -> None:
    names: list[str] = []
    has_callback = threading.Event()  # one added after the end is called by the thread that adds it

    def looks(inputs: dict[str, np.ndarray]) -> Any:
        assert has_callback.wait(PATIENCE_S)
        names.append(Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().strip())
        return double(inputs)

    with engine_of(looks, instances=2) as engine:
        future = engine.submit(rows())
        seen = threading.Event()
        future.add_done_callback(lambda _: (names.append(threading.current_thread().name), seen.set()))
        has_callback.set()
        assert seen.wait(PATIENCE_S)
        tasks = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    assert names[0] in ("paddleinfer-0", "paddleinfer-1") and names[1] == "paddleinfer-completions"
    assert {"paddleinfer-0", "paddleinfer-1"} <= tasks


# Closing


def test_use_after_close_says_so_and_closing_again_does_nothing() -> None:
    with engine_of() as engine:
        done = engine.submit(rows())
        engine.close()
        for call in (engine.infer, engine.submit):
            with pytest.raises(paddleinfer.EngineClosed, match="is closed") as caught:
                call(rows())
            assert isinstance(caught.value, RuntimeError)
        engine.close(drain=False, timeout=0)
        engine.close(timeout=None)
        assert engine.stats()["results"] == 1 and engine.effective_config() and repr(engine)
    assert done.result()["y"].tolist() == [[2, 2, 2]]


def test_the_context_manager_closes_also_when_its_body_fails() -> None:
    with pytest.raises(ZeroDivisionError), engine_of() as engine:
        assert engine.__enter__() is engine
        raise ZeroDivisionError
    assert engine.closed


def test_an_engine_of_many_instances_runs_as_many_at_once() -> None:
    together = threading.Barrier(4)

    def meets(inputs: dict[str, np.ndarray]) -> Any:
        together.wait(PATIENCE_S)
        return double(inputs)

    with engine_of(meets, instances=4) as engine:
        run_threads(4, lambda _: engine.infer(rows()))


def test_two_engines_do_not_disturb_each_other() -> None:
    with gated() as (first, gate), engine_of() as second:
        held = first.submit(rows())
        assert second.infer(rows())
        second.close()
        gate.open()
        assert held.result() and not first.closed


def test_one_engine_may_be_the_model_of_another() -> None:
    with engine_of() as inner, engine_of(inner.infer) as outer:
        assert outer.infer(rows())["y"].tolist() == [[2, 2, 2]]
        with pytest.raises(paddleinfer.InvalidInput, match="'x'"):
            outer.infer(rows()[0])
