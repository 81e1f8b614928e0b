"""The plugin's assertions about batches, as a user's tests meet them."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_runs import run, text_of

from paddleinfer import testing  # before the runs inside, which forget what they import

pytestmark = pytest.mark.usefixtures("alone")


def test_other_batches_than_expected_are_shown_as_a_diff(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import pytest

        @pytest.fixture
        def engine(virtual_engine, fake_predictor):
            engine = virtual_engine(fake_predictor(), policy="eager", max_batch_size=2)
            for _ in range(5):
                engine.submit([[0.1]])
            engine.run_until_idle()
            return engine

        def test_passes(engine, assert_batches):
            assert_batches(engine, [2, 2, 1])
            assert_batches(engine, [[0, 1], (2, 3), [4]])
            assert_batches(engine.predictor, [2, 2, 1])
            assert_batches(engine.predictor, [[0.1, 0.1], [0.1, 0.1], [0.1]])

        def test_fails_by_contents(engine, assert_batches):
            assert_batches(engine, [[0, 1], [2], [3, 4]])

        def test_fails_by_rows(engine, assert_batches):
            assert_batches(engine, [2, 2])

        def test_counts(paddle_engine, fake_predictor, assert_batches):
            engine = paddle_engine(fake_predictor())
            for rows in (1, 3, 1):
                engine.infer({"x": [[1.0]] * rows})
            assert_batches(engine, [1, 1, 3])
            with pytest.raises(TypeError, match="ask its FakePredictor"):
                assert_batches(engine, [[1.0]])
            with pytest.raises(TypeError, match="rows of every batch, or what is in every one"):
                assert_batches(fake_predictor(), [1, [2]])
            with pytest.raises(TypeError, match="takes an Engine, a FakePredictor or a VirtualEngine"):
                assert_batches([1], [1])
        """,
    )
    result.assert_outcomes(passed=2, failed=2)
    said = "\n".join(line for line in text_of(result).splitlines() if line.startswith("E  "))
    expected = [
        "other batches ran than expected (- expected, + ran):",
        "    0: [0, 1]",
        "  - 1: [2]",
        "  - 2: [3, 4]",
        "  + 1: [2, 3]",
        "  + 2: [4]",
        "other batches ran than expected (- expected, + ran):",
        "    0: 2 rows",
        "    1: 2 rows",
        "  + 2: 1 row",
    ]
    plain = [line[8:].removeprefix("AssertionError: ") for line in said.splitlines()]
    assert [line for line in plain if line in expected] == expected, said


def test_a_row_that_is_not_in_a_batch_what_it_is_alone_is_told(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import numpy as np
        import pytest

        X = {"x": ("float32", (-1, 2)), "n": ("int64", (-1,))}
        ROWS = {"x": np.arange(8.0).reshape(4, 2), "n": [1, 2, 3, 4]}

        def opened(paddle_engine, function, **options):
            return paddle_engine(function, X, ["y"], batchable=True, **options)

        def test_independent(paddle_engine, assert_same_alone_and_batched):
            engine = opened(paddle_engine, lambda i: i["x"] * i["n"][:, None], max_batch_size=3)
            assert_same_alone_and_batched(engine, ROWS)
            assert_same_alone_and_batched(engine, [ROWS["x"], ROWS["n"]])
            with pytest.raises(ValueError, match="not 1"):
                assert_same_alone_and_batched(engine, {"x": ROWS["x"][:1], "n": [1]})

        def test_centred(paddle_engine, assert_same_alone_and_batched):
            engine = opened(paddle_engine, lambda i: i["x"] - i["x"].mean(0))
            assert_same_alone_and_batched(engine, ROWS)

        def test_rounding(paddle_engine, assert_same_alone_and_batched):
            engine = opened(paddle_engine, lambda i: (i["x"] + 1) * np.float32(1 + 1e-6 * len(i["x"])))
            assert_same_alone_and_batched(engine, ROWS)

        def test_reduced(paddle_engine, assert_same_alone_and_batched):
            engine = opened(paddle_engine, lambda i: i["x"].sum())
            assert_same_alone_and_batched(engine, ROWS)

        def test_shapes(paddle_engine, assert_same_alone_and_batched):
            engine = opened(paddle_engine, lambda i: np.zeros((len(i["x"]), len(i["x"]))))
            assert_same_alone_and_batched(engine, ROWS)
        """,
    )
    result.assert_outcomes(passed=2, failed=3)
    for sentence in (
        "output y of row 0 differs by inf of its magnitude between the row alone and 4 rows together; "
        "1e-05 is allowed",
        "output y has the shape () for 4 rows",
        "output y of row 3 has the shape (1, 1) alone and (1, 4) among 4 rows",
    ):
        assert sentence in text_of(result)


def test_an_assertion_can_be_used_without_its_fixture() -> None:
    predictor = testing.FakePredictor()
    predictor({"x": np.zeros((2, 1))})
    testing.assert_batches(predictor, [2])
    assert all(hasattr(testing, name) for name in testing.__all__)
