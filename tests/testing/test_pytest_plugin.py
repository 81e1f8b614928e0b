"""The plugin's fixtures as a user's tests meet them: pytest runs inside pytest."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

import pytest
from pytest_runs import run, text_of

pytestmark = pytest.mark.usefixtures("alone")

DOCS = Path(__file__).resolve().parents[2] / "docs" / "testing.md"


# Loading


def test_the_plugin_loads_neither_paddle_nor_numpy_nor_the_core(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    installed = importlib.metadata.entry_points(group="pytest11", name="paddleinfer")
    plugin = () if installed else ("-p", "paddleinfer.pytest_plugin")
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            loaded = {name.split(".")[0] for name in sys.modules} | set(sys.modules)
            print("heavy:", *sorted({"paddle", "numpy", "ml_dtypes", "paddleinfer._ext"} & loaded))
            print("plugin:", "paddleinfer.pytest_plugin" in sys.modules)
        """
    )
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_subprocess(*plugin, "--collect-only", "-W", "error")
    assert result.ret == 0, text_of(result)
    result.stdout.re_match_lines([r"paddleinfer: \d+\.\d+\.\d+, (paddlepaddle|without Paddle)"])
    assert "heavy:\n" in text_of(result) and "plugin: True" in text_of(result)


def test_every_fixture_is_listed_with_what_it_is_for(pytester: pytest.Pytester) -> None:
    listed = text_of(run(pytester, "def test_nothing(): pass", "--fixtures"))
    for name in (
        "fake_predictor", "virtual_engine", "paddle_model", "paddle_engine", "assert_batches",
        "assert_same_alone_and_batched",
    ):  # fmt: skip
        assert re.search(rf"^{name}\b.*\n    \S", listed, re.MULTILINE), name


def test_the_example_of_the_documentation_passes(pytester: pytest.Pytester) -> None:
    if not DOCS.exists():
        pytest.skip("runs from a checkout only")
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    run(pytester, example).assert_outcomes(passed=2)


# fake_predictor


def test_a_predictor_does_on_an_engine_what_the_test_says(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import numpy as np
        import pytest
        import paddleinfer

        def test_it_computes_fails_and_remembers(fake_predictor, paddle_engine):
            predictor = fake_predictor(
                lambda inputs: {"y": -inputs["x"]},
                run_time_s=0.001,
                fail_on=lambda row: row["x"][1] < 0,
                fail_calls=[2],
                error=ValueError,
            )
            engine = paddle_engine(predictor)
            assert engine.infer({"x": [[1.0, 2.0], [3.0, 4.0]]})["y"].tolist() == [[-1, -2], [-3, -4]]
            with pytest.raises(paddleinfer.ModelError, match="ValueError: .* fails on a row of 5") as caught:
                engine.infer({"x": [[5.0, -1.0]]})
            with pytest.raises(paddleinfer.ModelError, match="fails in call 2"):
                engine.infer({"x": [[7.0, 1.0]]})
            first, second, third = predictor.runs
            assert (first.rows, first.values, first.thread, first.error) == (2, [1, 3], "paddleinfer-0", None)
            assert second.error is caught.value.__cause__
            np.testing.assert_array_equal(first.inputs["x"], [[1, 2], [3, 4]])

        def test_it_hangs_until_it_is_released(fake_predictor, paddle_engine):
            predictor = fake_predictor(hang_on=[-1.0])
            engine = paddle_engine(predictor, max_batch_size=4)
            hung = engine.submit({"x": [[-1.0]]})
            predictor.wait_for_runs(1)
            others = [engine.submit({"x": [[float(n)]]}) for n in range(4)]
            assert not hung.done() and len(predictor.runs) == 1
            predictor.release()
            assert hung.result() and all(other.result() for other in others)

        def test_what_still_hangs_is_let_go_of_at_the_end(paddle_engine, fake_predictor):
            predictor = fake_predictor()
            predictor.hang()
            paddle_engine(predictor).submit({"x": [[1.0]]})
            predictor.wait_for_runs(1)
        """,
    )
    result.assert_outcomes(passed=3)


def test_waiting_for_runs_that_do_not_come_fails_in_a_sentence(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paddleinfer.testing.fake_predictor._PATIENCE_S", 0.01)
    result = run(
        pytester,
        """
        def test_waits(fake_predictor):
            fake_predictor().wait_for_runs(2)
        """,
    )
    result.assert_outcomes(failed=1)
    assert "0 runs, not 2, of the fake predictor began in 0.01 s" in text_of(result)


# virtual_engine


def test_a_virtual_engine_runs_on_its_own_clock(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import paddleinfer
        import pytest

        def test_two_of_them(virtual_engine, fake_predictor):
            one = virtual_engine(fake_predictor(run_time_s=3600.0))
            other = virtual_engine()
            request = one.submit()
            one.run_until_idle()
            assert (one.now, other.now, request.outcome) == (3600.0, 0.0, "result")

        def test_options_are_checked(virtual_engine):
            with pytest.raises(paddleinfer.ConfigError, match="max_batch_size"):
                virtual_engine(max_batch_size=0)

        def test_fails(virtual_engine):
            engine = virtual_engine()
            engine.submit(at=1.0)
            assert engine.requests == []
        """,
    )
    result.assert_outcomes(passed=2, failed=1)
    assert "<request 0: 1 rows, not ended>" in text_of(result)


# paddle_model


def test_a_model_is_exported_once_a_session(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import numpy as np
        import paddle
        import paddleinfer
        import pytest

        made = []
        X4 = {"x": ("float32", (-1, 4))}
        X3 = {"x": ("float32", (-1, 3))}

        class Net(paddle.nn.Linear):
            def __init__(self):
                super().__init__(4, 2)
                made.append(self)

        def doubled(x):
            return x * 2

        def test_a_class_is_found_by_its_name(paddle_model):
            assert paddle_model(Net, X4) == paddle_model(Net, X4)
            assert len(made) == 1

        def test_the_next_test_finds_it_too(paddle_model, paddle_engine):
            engine = paddle_engine(paddle_model(Net, X4), instances=1)
            assert len(made) == 1
            (y,) = engine.infer(np.ones((2, 4), "float32")).values()
            assert y.shape == (2, 2)

        def test_weights_are_the_same_each_time_and_the_seed_of_others_is_left(paddle_model):
            paddle.seed(3)
            expected = paddle.rand([3]).numpy()
            paddle.seed(3)
            paddle_model(lambda: Net(), X4)
            assert (paddle.rand([3]).numpy() == expected).all()
            first, last = made[0].weight.numpy(), made[-1].weight.numpy()
            assert len(made) == 2 and (first == last).all()

        def test_functions_layers_and_keys(paddle_model, paddle_engine):
            directory = paddle_model(doubled, X3)
            assert paddle_model(doubled, X3) == directory != paddle_model(doubled, X4)
            (y,) = paddle_engine(directory, instances=1).infer({"x": [[1.0, 2.0, 3.0]]}).values()
            assert y.tolist() == [[2, 4, 6]]
            layer = paddle.nn.Linear(3, 1)
            assert paddle_model(layer, X3) != paddle_model(layer, X3)
            assert paddle_model(layer, X3, key="a") == paddle_model(layer, X3, key="a")

        def test_what_is_wrong_is_said(paddle_model):
            paddle_model(Net, X4, key="net")
            with pytest.raises(paddleinfer.ConfigError, match="key 'net' stands for .*Net"):
                paddle_model(doubled, X4, key="net")
            with pytest.raises(paddleinfer.ConfigError, match="Linear needs in_features, out_features"):
                paddle_model(paddle.nn.Linear, X4)
        """
    )
    # In a process of its own: Paddle can be imported once.
    result = pytester.runpytest_subprocess("-p", "paddleinfer.pytest_plugin")
    result.assert_outcomes(passed=5)


def test_without_paddle_the_test_is_skipped_with_a_sentence(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "paddle", None)
    result = run(pytester, "def test_model(paddle_model): pass", "-rs")
    result.assert_outcomes(skipped=1)
    assert "pip install 'paddleinfer[cpu]'" in text_of(result)


# paddle_engine


def test_engines_are_closed_when_the_test_ends_also_when_it_fails(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        engines = []

        def test_fails(paddle_engine):
            for _ in range(2):
                engines.append(paddle_engine(lambda i: i["x"], {"x": ("float32", (-1, 3))}, ["y"]))
            engines[0].close()
            assert not engines[1].closed
            1 / 0

        def test_after_it():
            assert all(engine.closed for engine in engines)
        """,
    )
    result.assert_outcomes(passed=1, failed=1)


def test_every_kind_of_end_counts_as_one(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        import paddleinfer

        def test_ends(fake_predictor, paddle_engine):
            predictor = fake_predictor(fail_on=[1.0], hang_on=[-1.0])
            engine = paddle_engine(predictor)
            engine.submit({"x": [[-1.0]]})
            predictor.wait_for_runs(1)
            with pytest.raises(paddleinfer.DeadlineExceeded):
                engine.infer({"x": [[2.0]]}, timeout=0.001)
            engine.submit({"x": [[3.0]]}).cancel()
            failing = engine.submit({"x": [[1.0]]})
            predictor.release()
            assert failing.exception()
            predictor.hang()
            engine.submit({"x": [[4.0]]})
            predictor.wait_for_runs(3)
            engine.submit({"x": [[5.0]]})
            engine.close(drain=False, timeout=0)
        """,
    )
    result.assert_outcomes(passed=1)


@pytest.mark.usefixtures("impatient")
def test_a_lost_request_fails_the_test_with_a_sentence(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        def test_loses_one(fake_predictor, paddle_engine):
            engine = paddle_engine(fake_predictor())
            engine.infer({"x": [[1.0]]})
            counted = engine.stats
            engine.stats = lambda: {**counted(), "requests": 2}
        """,
    )
    result.assert_outcomes(passed=1, errors=1)
    assert (
        "<Engine 'FakePredictor': x -> y, instances=1> lost requests: it accepted 2, and 1 ended (1 results)"
        in text_of(result)
    )


@pytest.mark.usefixtures("impatient")
def test_a_leaked_thread_fails_the_test_with_a_sentence(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\npaddleinfer_close_timeout = 0.1")
    result = run(
        pytester,
        """
        import threading
        import types

        gate = threading.Event()

        def waits(inputs):
            gate.wait()
            return inputs["x"]

        def open_it(paddle_engine):
            return paddle_engine(waits, {"x": ("float32", (-1, 3))}, ["y"], instances=2)

        def test_an_instance(paddle_engine):
            open_it(paddle_engine).submit({"x": [[1.0, 2.0, 3.0]]})

        def test_a_caller(paddle_engine):
            engine = open_it(paddle_engine)

            def infer(self):
                gate.wait()

            threading.Thread(target=infer, args=(engine,), name="worker").start()

        def test_no_leak(paddle_engine):
            gate.set()
            open_it(paddle_engine).submit({"x": [[1.0, 2.0, 3.0]]})
        """,
    )
    result.assert_outcomes(passed=3, errors=2)
    said = re.findall(r"^.* leaked .*$", text_of(result), re.MULTILINE)
    # The root, which goes last, stays for a clone that has not come back.
    assert re.search(
        r"leaked threads: paddleinfer-[01](, paddleinfer-1)? still alive after close\(\)", said[0]
    )
    assert "leaked callers: worker still in a call of it after close()" in said[1]


def test_threads_of_other_engines_are_not_its_business(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        import paddleinfer

        X = {"x": ("float32", (-1, 1))}

        @pytest.fixture(scope="module")
        def shared():
            with paddleinfer.Engine.from_callable(lambda i: i["x"], X, ["y"], instances=2) as engine:
                yield engine

        def test_a_later_engine_stays_open(paddle_engine, fake_predictor, request):
            engine = paddle_engine(fake_predictor())
            shared = request.getfixturevalue("shared")
            assert engine.submit({"x": [[1.0]]}).result() and shared.submit({"x": [[1.0]]}).result()

        def test_still(shared):
            assert shared.infer({"x": [[1.0]]})
        """,
    )
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize("given", ["soon", "-1", "nan"])
def test_a_close_timeout_that_makes_no_sense_is_refused(pytester: pytest.Pytester, given: str) -> None:
    pytester.makeini(f"[pytest]\npaddleinfer_close_timeout = {given}")
    result = run(pytester, "def test_engine(paddle_engine): pass")
    result.assert_outcomes(errors=1)
    assert f"paddleinfer_close_timeout must be a number of seconds >= 0, not '{given}'" in text_of(result)


def test_a_function_and_a_path_are_told_apart(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest
        import paddleinfer

        def test_engine(paddle_engine, tmp_path):
            with pytest.raises(paddleinfer.ConfigError, match="a function needs inputs="):
                paddle_engine(lambda inputs: inputs)
            with pytest.raises(paddleinfer.ConfigError, match="stands for its own"):
                paddle_engine(tmp_path, {"x": ("float32", (-1, 3))})
            with pytest.raises(paddleinfer.ModelLoadError):
                paddle_engine(tmp_path)
        """,
    )
    result.assert_outcomes(passed=1)
