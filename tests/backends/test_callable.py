"""A Python function in the model's place: how it may be described, and which mistakes are refused."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, X, double, engine_of, eventually, gated, rows, run_threads

import paddleinfer

# Descriptions


@pytest.mark.parametrize(
    ("inputs", "outputs", "sentence"),
    [
        ({}, ["y"], "inputs must be a dict"),
        (None, ["y"], "inputs must be a dict"),
        (["x"], ["y"], "inputs must be a dict"),
        ({"x": None}, ["y"], "input 'x' must be described as"),
        ({"x": "float32"}, ["y"], "input 'x' must be described as"),
        ({"x": ("float32",)}, ["y"], "input 'x' must be described as"),
        ({"": X}, ["y"], "input ''"),
        ({3: X}, ["y"], "input 3"),
        ({"x": ("float31", (-1,))}, ["y"], "one of float32, float64"),
        ({"x": ("complex64", (-1,))}, ["y"], "has dtype 'complex64'"),
        ({"x": (np.float32, (-1,))}, ["y"], "has dtype"),
        ({"x": (None, (-1,))}, ["y"], "has dtype None"),
        ({"x": (["float32"], (-1,))}, ["y"], "has dtype"),
        ({"x": ("float32", None)}, ["y"], "has shape None"),
        ({"x": ("float32", -1)}, ["y"], "has shape -1"),
        ({"x": ("float32", (0,))}, ["y"], "sizes are positive"),
        ({"x": ("float32", (-2,))}, ["y"], "sizes are positive"),
        ({"x": ("float32", (-1, None))}, ["y"], "sizes are positive"),
        ({"x": ("float32", (-1, 2.0))}, ["y"], "sizes are positive"),
        ({"x": ("float32", (-1,) * 10)}, ["y"], "at most 9"),
        ({"x": X}, [], "name each output once"),
        ({"x": X}, ["y", "y"], "name each output once"),
        ({"x": X}, "y", "outputs must be a list"),
        ({"x": X}, None, "outputs must be a list"),
        ({"x": X}, [1], "outputs must be a list"),
        ({"x": X}, {"y": "float32"}, "output 'y' must be described as"),
        ({"x": X}, {"y": ("float31", (-1,))}, "output 'y' has dtype"),
        ({"x": X}, {}, "name each output once"),
    ],
)
def test_descriptions_that_make_no_sense_are_refused(inputs: Any, outputs: Any, sentence: str) -> None:
    with pytest.raises(paddleinfer.ConfigError, match=sentence) as caught:
        paddleinfer.Engine.from_callable(double, inputs, outputs)
    assert "\n" not in str(caught.value) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("fn", [None, 3, "double", {}])
def test_what_cannot_be_called_is_refused(fn: Any) -> None:
    with pytest.raises(paddleinfer.ConfigError, match="takes a function"):
        engine_of(fn)


def test_numpys_own_dtypes_in_a_description_work_or_are_refused_at_once() -> None:
    description = {"x": (np.dtype("float32"), (-1, 3))}
    try:
        engine = paddleinfer.Engine.from_callable(double, description, {"y": (np.dtype("float32"), (-1, 3))})
    except paddleinfer.ConfigError:
        return
    with engine:
        for x in (rows(), rows().astype("float64"), rows().tolist()):
            assert engine.infer({"x": x})["y"].tolist() == [[2, 2, 2]]


class Model:
    def __call__(self, inputs: dict[str, np.ndarray]) -> Any:
        return double(inputs)

    def method(self, inputs: dict[str, np.ndarray]) -> Any:
        return double(inputs)


@pytest.mark.parametrize(
    "fn",
    [
        double,
        Model(),
        Model().method,
        functools.partial(double),
        lambda inputs: {"y": inputs["x"] * 2},
        staticmethod(double),
    ],
)
def test_anything_that_can_be_called_will_do(fn: Any) -> None:
    with engine_of(fn) as engine:
        assert engine.infer(rows())["y"].tolist() == [[2, 2, 2]]
        assert repr(engine)


def test_options_of_paddle_are_refused_on_a_function() -> None:
    for options in (
        {"ir_optim": True},
        {"onednn": False},
        {"device": "gpu:0"},
        {"precision": "int8"},
        {"cpu_threads": 2},
    ):
        with pytest.raises(paddleinfer.ConfigError, match="no effect on a callable"):
            engine_of(**options)
    with pytest.raises(paddleinfer.ConfigError, match="batchable=True"):
        paddleinfer.Engine.from_callable(double, {"x": ("float32", (4, 3))}, ["y"], batchable=True)


# Outputs that are not what was said


def generator(inputs: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    yield inputs["x"]


@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (lambda _: None, ["y"]),
        (lambda _: {}, ["no output 'y'"]),
        (lambda _: {"z": rows()}, ["no output 'y'", "z"]),
        (lambda _: {"y": None}, ["y"]),
        (lambda _: [], ["0 outputs", "1 were declared"]),
        (lambda _: [rows(), rows()], ["2 outputs", "1 were declared"]),
        (lambda _: rows().astype("float64"), ["'y' must be float32", "float64"]),
        (lambda _: rows().astype(">f4"), ["'y' must be float32"]),
        (lambda _: rows()[0], ["'y' must have shape", "(3,)"]),
        (lambda _: np.zeros((2, 4), "float32"), ["'y' must have shape", "(2, 4)"]),
        (lambda _: "text", ["y"]),
        (lambda _: {"y": "text"}, ["y"]),
        (lambda _: {"y": {1, 2}}, ["y"]),
        (lambda _: [[[1.0], [2.0, 3.0]]], ["inhomogeneous"]),
        (generator, ["y"]),
        (lambda _: (value for value in (1, 2)), ["y"]),
        (lambda _: np.zeros((1,) * 12, "float32"), ["y"]),
    ],
)
def test_wrong_outputs_fail_their_caller_in_a_sentence(fn: Any, words: list[str]) -> None:
    with paddleinfer.Engine.from_callable(fn, {"x": X}, {"y": ("float32", (-1, 3))}) as engine:
        for call in (engine.infer, lambda feeds: engine.submit(feeds).result()):
            with pytest.raises(paddleinfer.ModelError) as caught:
                call(rows())
            said = str(caught.value)
            assert all(word in said for word in words) and "\n" not in said, said
            assert isinstance(caught.value.__cause__, (TypeError, ValueError))
        assert engine.stats()["errors"] == 2


@pytest.mark.parametrize(
    "value",
    [
        1j,
        "text",
        None,
        np.zeros(2, object),
        np.zeros(2, "uint32"),
        np.zeros((1,) * 12),
        np.zeros(1, "M8[s]"),
        [[1], [2, 3]],
    ],
)
def test_outputs_of_unknown_kinds_fail_also_when_nothing_was_declared(value: Any) -> None:
    with engine_of(lambda _: {"y": value}) as engine:
        with pytest.raises(paddleinfer.ModelError):
            engine.infer(rows())
        assert engine.stats()["executions"] == 1


# Functions that raise


def test_what_a_function_raises_is_the_cause_and_the_engine_goes_on() -> None:
    def fussy(inputs: dict[str, np.ndarray]) -> Any:
        if inputs["x"][0, 0] < 0:
            raise KeyError("negative")
        return double(inputs)

    with engine_of(fussy, instances=2) as engine:
        for _ in range(3):
            for call in (engine.infer, lambda feeds: engine.submit(feeds).result()):
                with pytest.raises(paddleinfer.ModelError, match="KeyError: 'negative'") as caught:
                    call(rows(value=-1))
                assert isinstance(caught.value, RuntimeError) and type(caught.value.__cause__) is KeyError
                names = [entry.name for entry in caught.traceback]
                assert "fussy" not in names  # it stands in the cause's traceback
                assert caught.value.__cause__.__traceback__ is not None
            assert engine.infer(rows())["y"].tolist() == [[2, 2, 2]]


@pytest.mark.parametrize(
    "raised",
    [
        SystemExit(3),
        SystemExit(),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(1),
        MemoryError(),
        RecursionError("deep"),
    ],
)
def test_exceptions_that_end_programs_end_their_request_only(raised: BaseException) -> None:
    def raises(inputs: dict[str, np.ndarray]) -> Any:
        if inputs["x"][0, 0] < 0:
            raise raised
        return double(inputs)

    with engine_of(raises) as engine:
        with pytest.raises(paddleinfer.ModelError, match=type(raised).__name__) as caught:
            engine.infer(rows(value=-1))
        assert caught.value.__cause__ is raised
        with pytest.raises(paddleinfer.ModelError):
            engine.submit(rows(value=-1)).result()
        assert engine.infer(rows())


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Strange(Exception):
    def __str__(self) -> Any:
        return 3  # noqa: PLE0307


@pytest.mark.parametrize("kind", [Unprintable, Strange])
def test_an_exception_that_cannot_be_printed_is_still_the_cause(kind: type[Exception]) -> None:
    def raises(_: Any) -> Any:
        raise kind

    with engine_of(raises) as engine, pytest.raises(paddleinfer.ModelError, match=kind.__name__) as caught:
        engine.infer(rows())
    assert type(caught.value.__cause__) is kind


@pytest.mark.parametrize("text", ["", "a\nb", "\n\n", "\ud800", "\0", "x" * 100_000, "100 %s {} %n"])
def test_any_text_of_an_exception_is_survived(text: str) -> None:
    def raises(_: Any) -> Any:
        raise ValueError(text)

    with engine_of(raises) as engine, pytest.raises(paddleinfer.ModelError, match=r"^ValueError") as caught:
        engine.infer(rows())
    assert "\n" not in str(caught.value) and caught.value.__cause__.args == (text,)


def test_endless_recursion_fails_its_caller_only() -> None:
    def recurses(inputs: dict[str, np.ndarray]) -> Any:
        return recurses(inputs) if inputs["x"][0, 0] < 0 else double(inputs)

    with engine_of(recurses) as engine:
        with pytest.raises(paddleinfer.ModelError, match="RecursionError"):
            engine.infer(rows(value=-1))
        assert engine.infer(rows())


def test_what_was_raised_is_freed_once_its_caller_lets_go() -> None:
    class Heavy(Exception):
        pass

    kept: list[weakref.ref[BaseException]] = []

    def raises(_: Any) -> Any:
        error = Heavy()
        kept.append(weakref.ref(error))
        raise error

    def call(engine: paddleinfer.Engine, submit: bool) -> None:
        with contextlib.suppress(paddleinfer.ModelError):
            engine.submit(rows()).result() if submit else engine.infer(rows())

    for submit in (False, True):
        with engine_of(raises) as engine:
            call(engine, submit)
            assert eventually(lambda: kept[-1]() is None)
        late = engine_of(raises)
        future = late.submit(rows())
        late.close()
        assert isinstance(future.exception(), paddleinfer.ModelError)
        del future
        assert eventually(lambda: kept[-1]() is None)
    assert len(kept) == 4


# Functions that use their own engine


def test_calling_its_own_engine_is_refused_instead_of_waiting_for_itself() -> None:
    said: list[str] = []

    def recursive(inputs: dict[str, np.ndarray]) -> Any:
        for call in (engine.infer, engine.submit):
            with pytest.raises(paddleinfer.PaddleInferError) as caught:
                call(inputs)
            said.append(str(caught.value))
        return double(inputs)

    with engine_of(recursive) as engine:
        assert engine.infer(rows())
        assert len(said) == 2 and all("inside its own model" in text for text in said)


def test_waiting_for_its_own_engines_future_is_refused() -> None:
    with gated() as (engine, gate):
        gate.open()

        def waits(inputs: dict[str, np.ndarray]) -> Any:
            return waiting.result()

        with engine_of(waits) as own:
            with pytest.raises(paddleinfer.ModelError, match="waiting"):
                own.infer(rows())
            waiting = engine.submit(rows())
            waiting.result()
            assert own.infer(rows())  # another engine's


def test_a_function_may_look_at_its_engine() -> None:
    seen: list[Any] = []

    def looks(inputs: dict[str, np.ndarray]) -> Any:
        seen.extend(
            [engine.stats()["running_executions"], repr(engine), engine.effective_config(), engine.closed]
        )
        gc.collect()
        return double(inputs)

    with engine_of(looks) as engine:
        assert engine.infer(rows())
    assert seen[0] == 1 and seen[3] is False


@pytest.mark.parametrize("timeout", [10 * PATIENCE_S, None])
def test_closing_its_own_engine_does_not_wait_for_itself(timeout: float | None) -> None:
    def closes(inputs: dict[str, np.ndarray]) -> Any:
        engine.close(timeout=timeout)
        return double(inputs)

    engine = engine_of(closes)
    future = engine.submit(rows())
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    assert ended.wait(PATIENCE_S)
    assert isinstance(future.exception(0), (paddleinfer.PaddleInferError, type(None)))
    engine.close(timeout=0)


def test_a_function_may_drop_the_last_reference_to_its_engine() -> None:
    engines: list[paddleinfer.Engine] = []

    def drops(inputs: dict[str, np.ndarray]) -> Any:
        engines.clear()
        return double(inputs)

    engines.append(engine_of(drops))
    core = weakref.ref(engines[0]._generation.core)
    future = engines[0].submit(rows())
    assert future.exception(PATIENCE_S) is None or isinstance(future.exception(), paddleinfer.EngineClosed)
    del future
    assert eventually(lambda: core() is None)


def test_locals_of_an_instances_thread_stay_from_call_to_call() -> None:
    local = threading.local()

    def counts(inputs: dict[str, np.ndarray]) -> np.ndarray:
        local.calls = getattr(local, "calls", 0) + 1
        return np.array([local.calls])

    with engine_of(counts) as engine:
        assert [int(engine.infer(rows())["y"][0]) for _ in range(3)] == [1, 2, 3]


def test_functions_run_beside_collections_and_thread_switches() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def collects(inputs: dict[str, np.ndarray]) -> Any:
        cycle: list[Any] = [inputs]
        cycle.append(cycle)
        gc.collect(0)
        return double(inputs)

    try:
        with engine_of(collects, instances=2) as engine:
            run_threads(8, lambda _: [engine.infer(rows()) and gc.collect(0) for _ in range(20)])
            assert engine.stats()["results"] == 160
    finally:
        sys.setswitchinterval(interval)
