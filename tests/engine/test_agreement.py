"""Another runtime's answers are compared with Paddle's at load."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from zoo import Zoo

from paddleinfer import Engine
from paddleinfer.backends.onnx.proofs import Reference
from paddleinfer.engine import agreement, paddle_answers
from paddleinfer.engine.agreement import check_agreement
from paddleinfer.engine.differences import difference_of
from paddleinfer.engine.opening import Opening
from paddleinfer.engine.paddle_answers import NoAnswers, answers_of_paddle
from paddleinfer.errors import ConfigError, EngineClosed, ModelLoadError, OutOfMemory
from paddleinfer.models.reader import load_spec

pytestmark = pytest.mark.on_paddle


def array(*values: float, dtype: Any = np.float32) -> Any:
    return np.array(values, dtype)


@pytest.mark.parametrize(
    ("given", "wanted", "largest", "agree"),
    [
        (array(1.00005, 2), array(1, 2), 0, True),
        (array(1.0005, 2), array(1, 2), 0, False),
        (array(1e-7, 0), array(2e-7, 5e-6), 0, False),
        (array(1.5e-6, 5e-6), array(1e-6, 5e-6), 0, True),  # the floor: noise of what is next to nothing
        (array(4e-6), array(1e-6), 0, False),
        (array(4e-6), array(1e-6), 100, True),  # the output has been as large as 100
        (array(math.nan, 1), array(math.nan, 1), 0, True),
        (array(math.nan, 1), array(1, 1), 0, False),
        (array(1, 1), array(math.inf, 1), 0, False),
        (array(math.inf, 1), array(math.inf, 1), 0, True),
        (array(1, 2, dtype=np.int64), array(1, 2, dtype=np.int64), 0, True),
        (array(1, 3, dtype=np.int64), array(1, 2, dtype=np.int64), 0, False),
        (array(1.005, dtype=np.float16), array(1, dtype=np.float16), 0, True),
        (array(1.02, dtype=ml_dtypes.bfloat16), array(1, dtype=ml_dtypes.bfloat16), 0, True),
        (array(1.05, dtype=ml_dtypes.bfloat16), array(1, dtype=ml_dtypes.bfloat16), 0, False),
        (array(1), array(1, 1), 0, False),
        (array(1, dtype=np.float64), array(1), 0, False),
        (array(), array(), 0, True),
    ],
)
def test_results_agree_within_the_tolerance_across_runtimes(
    given: Any, wanted: Any, largest: float, agree: bool
) -> None:
    difference, allowed = difference_of(given, wanted, largest)
    assert (difference <= allowed) is agree


# -- the comparison, with a function in the model's place and another in Paddle's


def double(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"y": inputs["x"] * 2, "n": (inputs["x"] > 0).sum(axis=1)}


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine.from_callable(double, {"x": ("float32", (-1, 4))}, ["y", "n"]) as opened:
        yield opened


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    return Reference("onnxruntime 1.32.0", tmp_path, Opening())


class Paddle:
    """Answers as `double`, but for what is changed."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes
        self.asked = 0

    def __call__(self, spec: Any, params: Any, cases: Any, load: Any) -> list[dict[str, Any]]:
        self.asked += 1
        changes = self.changes
        return [
            {name: changes.get(name, lambda value: value)(value) for name, value in double({"x": x}).items()}
            for (x,) in cases
        ]


def note_of(engine: Engine) -> str:
    return str(engine.effective_config()["backend"]["note"])


def test_agreement_is_reported_with_the_difference(engine: Engine, reference: Reference) -> None:
    check_agreement(engine._generation, reference, Paddle(y=lambda y: y + np.float32(1e-5)))
    assert "answers agree with Paddle's (1x4, 2x4): output 'y' differs by " in note_of(engine)
    assert "not finite" not in note_of(engine)


def test_where_paddle_cannot_run_the_made_up_integers_it_is_asked_with_ones(reference: Reference) -> None:
    def divided(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"y": 6 // np.maximum(inputs["n"], 1)}

    def paddle(spec: Any, params: Any, cases: Any, load: Any) -> list[dict[str, Any]]:
        if any((n == 0).any() for (n,) in cases):
            raise NoAnswers("Integer division by zero")
        return [divided({"n": n}) for (n,) in cases]

    with Engine.from_callable(divided, {"n": ("int64", (-1, 4))}, ["y"]) as engine:
        check_agreement(engine._generation, reference, paddle)
        assert "answers agree with Paddle's" in note_of(engine)


def test_values_that_are_not_finite_are_said_to_prove_nothing(reference: Reference) -> None:
    def nothing(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"y": inputs["x"] * np.float32(math.nan)}

    with Engine.from_callable(nothing, {"x": ("float32", (-1, 4))}, ["y"]) as engine:
        check_agreement(
            engine._generation,
            reference,
            lambda spec, params, cases, load: [nothing({"x": x}) for (x,) in cases],
        )
        assert note_of(engine).endswith("all outputs are equal; 12 values are not finite, and prove nothing")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"y": lambda y: y * np.float32(1.01)},
            r"output 'y' differs by 0\.\d+, and \S+ is allowed, on inputs of",
        ),
        ({"n": lambda n: n + 1}, "output 'n' is not equal, on inputs of the shapes 1x4"),
        ({"y": lambda y: y[:, :2]}, r"output 'y' is float32 \(1, 4\) and not float32 \(1, 2\)"),
        ({"y": lambda y: y.astype("float64")}, r"output 'y' is float32 \(1, 4\) and not float64 \(1, 4\)"),
    ],
)
def test_a_difference_is_a_refusal_that_names_it_and_the_ways_on(
    engine: Engine, reference: Reference, changes: Any, sentence: str
) -> None:
    with pytest.raises(
        ModelLoadError, match=f"other answers in onnxruntime 1.32.0 than in Paddle: {sentence}.*"
    ) as caught:
        check_agreement(engine._generation, reference, Paddle(**changes))
    assert str(caught.value).endswith('backend="paddle" runs it, and check=False loads it all the same')
    assert os.listdir(reference.directory) == []


def scored(inputs: dict[str, Any], best: int = 2) -> dict[str, Any]:
    rows = len(inputs["x"])
    scores = np.tile(np.array([0, 1, 1.000001], "float32"), (rows, 1))
    return {"scores": scores, "best": np.full(rows, best)}


@pytest.mark.parametrize(
    ("best", "expected"),
    [(1, contextlib.nullcontext()), (0, pytest.raises(ModelLoadError, match="output 'best' is not equal"))],
)
def test_integers_that_name_equal_values_agree(reference: Reference, best: int, expected: Any) -> None:
    def ask(spec: Any, params: Any, cases: Any, load: Any) -> list[dict[str, Any]]:
        return [scored({"x": x}, best) for (x,) in cases]

    with (
        Engine.from_callable(scored, {"x": ("float32", (-1, 3))}, ["scores", "best"]) as engine,
        expected,
    ):
        check_agreement(engine._generation, reference, ask)


def test_a_lack_of_memory_is_no_fault_of_the_conversion(
    engine: Engine, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(core: Any, case: Any) -> Any:
        raise OutOfMemory("no room")

    monkeypatch.setattr(agreement, "run_once", no_room)
    with pytest.raises(OutOfMemory, match="no room"):
        check_agreement(engine._generation, reference, Paddle())


def test_a_proof_is_kept_and_asked_for_once(engine: Engine, reference: Reference) -> None:
    paddle = Paddle()
    for _ in range(2):
        check_agreement(engine._generation, reference, paddle)
    assert paddle.asked == 1
    other = Reference("onnxruntime 1.33.0", reference.directory, Opening())
    check_agreement(engine._generation, other, paddle)
    assert paddle.asked == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"worst": "none"}', '{"worst": 1, "cases": "x"}'])
def test_a_damaged_proof_is_none(engine: Engine, reference: Reference, text: str) -> None:
    paddle = Paddle()
    check_agreement(engine._generation, reference, paddle)
    (name,) = os.listdir(reference.directory)
    (reference.directory / name).write_text(text)
    check_agreement(engine._generation, reference, paddle)
    assert paddle.asked == 2


def test_a_folder_that_cannot_be_written_to_is_no_hindrance(engine: Engine, tmp_path: Path) -> None:
    gone = Reference("onnxruntime 1.32.0", tmp_path / "gone", Opening())
    check_agreement(engine._generation, gone, Paddle())
    assert "answers agree" in note_of(engine)


def test_where_paddle_gives_no_answers_that_is_reported(
    engine: Engine, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: Any) -> Any:
        raise NoAnswers("Paddle cannot run it: an operator")

    check_agreement(engine._generation, reference, none)
    assert "answers were not compared with Paddle's: Paddle cannot run it: an operator" in note_of(engine)
    assert "were not compared" in caplog.text


def test_sizes_that_nobody_knows_are_reported(reference: Reference) -> None:
    with Engine.from_callable(double, {"x": ("float32", (-1, -1))}, ["y", "n"]) as opened:
        check_agreement(opened._generation, reference, Paddle())
        assert "not compared with Paddle's: input 'x' has the shape (-1, -1)" in note_of(opened)


def test_without_the_check_nothing_is_compared(reference: Reference) -> None:
    paddle = Paddle()
    with Engine.from_callable(double, {"x": ("float32", (-1, 4))}, ["y", "n"], check=False) as opened:
        check_agreement(opened._generation, reference, paddle)
        assert "check=False compares no answers" in note_of(opened)
    assert paddle.asked == 0


def test_a_model_that_fails_where_paddle_answers_is_refused(reference: Reference) -> None:
    def fails(inputs: dict[str, Any]) -> Any:
        raise ValueError("no kernel")

    with (
        Engine.from_callable(fails, {"x": ("float32", (-1, 4))}, ["y", "n"]) as opened,
        pytest.raises(
            ModelLoadError, match=r"fails in another runtime where Paddle answers.* 1x4: .*no kernel"
        ),
    ):
        check_agreement(opened._generation, reference, Paddle())


# -- inputs of the user's


def with_inputs(path: Path | str, **options: Any) -> Engine:
    return Engine.from_callable(
        double, {"x": ("float32", (-1, 4))}, ["y", "n"], verify_inputs=path, **options
    )


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_given_inputs_are_what_is_compared_and_reported(
    reference: Reference, tmp_path: Path, name: str
) -> None:
    rows = np.arange(20, dtype="float32").reshape(5, 4)
    if name == "x.npz":
        np.savez(tmp_path / name, x=rows)
    else:
        np.save(tmp_path / name, rows)
    seen: list[Any] = []

    def paddle(spec: Any, params: Any, cases: Any, load: Any) -> Any:
        seen.extend(cases)
        return Paddle()(spec, params, cases, load)

    with with_inputs(tmp_path / name) as opened:
        check_agreement(opened._generation, reference, paddle)
        line = opened.effective_config()["verify_inputs"]
    ((x,),) = seen
    np.testing.assert_array_equal(x, rows)
    assert line["value"] == str(tmp_path / name) and line["source"] == "option"
    assert line["note"] == "answers were compared on its arrays (5x4)"


def test_other_values_of_the_same_shapes_are_compared_anew(reference: Reference, tmp_path: Path) -> None:
    paddle = Paddle()
    for number in (1, 2, 2):
        np.savez(tmp_path / "x.npz", x=np.full((1, 4), number, "float32"))
        with with_inputs(tmp_path / "x.npz") as opened:
            check_agreement(opened._generation, reference, paddle)
    assert paddle.asked == 2


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        (None, "cannot be read .No such file or directory.; verify_inputs takes an .npy or .npz file"),
        ({"z": np.ones((1, 4), "float32")}, "z"),
        ({"x": np.ones((1, 5), "float32")}, "dimension 1 must be 4"),
        ({"x": np.ones((1, 4), "complex64")}, "takes float32, not complex64"),
        ({}, "x"),
    ],
)
def test_given_inputs_that_do_not_fit_are_refused(
    reference: Reference, tmp_path: Path, arrays: Any, sentence: str
) -> None:
    if arrays is not None:
        np.savez(tmp_path / "x.npz", **arrays)
    with (
        with_inputs(tmp_path / "x.npz") as opened,
        pytest.raises(ConfigError, match=f"verify_inputs names .*cannot be used: .*{sentence}"),
    ):
        check_agreement(opened._generation, reference, Paddle())


def test_given_inputs_without_effect_are_reported_so(reference: Reference, tmp_path: Path) -> None:
    with with_inputs(tmp_path / "none.npz") as opened:
        assert "without effect: no other" in opened.effective_config()["verify_inputs"]["note"]
    with with_inputs(tmp_path / "none.npz", check=False) as opened:
        check_agreement(opened._generation, reference, Paddle())
        assert "without effect with check=False" in opened.effective_config()["verify_inputs"]["note"]


@pytest.mark.parametrize("value", ["", 3, [], "a\0b"])
def test_the_name_of_a_file_is_wanted(value: Any) -> None:
    with pytest.raises(ConfigError, match="verify_inputs must be the name or the path of a file"):
        with_inputs(value)


# -- the process that asks Paddle


IMPORTS = (
    "import os, pickle, sys, time; read = sys.stdin.buffer; pickle.load(read); order = pickle.load(read); "
)


def asked(zoo: Zoo, child: str | None = None, **options: Any) -> Any:
    spec = load_spec(zoo.directory("mlp", zoo.formats[0]))
    cases = [[np.full((rows, 16), 0.5, "float32")] for rows in (1, 2)]
    if child is not None:
        options["child"] = IMPORTS + child
    return answers_of_paddle(spec, None, cases, options.pop("load", Opening()), **options)


def test_paddle_answers_each_case_in_a_process_of_its_own(zoo: Zoo) -> None:
    first, second = asked(zoo)
    (name,) = first
    with Engine(zoo.directory("mlp", zoo.formats[0])) as engine:
        (wanted,) = engine.infer({"x": np.full((2, 16), 0.5, "float32")}).values()
    np.testing.assert_allclose(second[name], wanted, rtol=1e-5)
    assert first[name].shape == (1, 4)


@pytest.mark.parametrize(
    ("child", "sentence"),
    [
        ("os.abort()", "the process that asked Paddle ended with SIGABRT"),
        ("os._exit(3)", "the process that asked Paddle ended with the exit code 3"),
        ("os.write(order[3], pickle.dumps(('failure', 'a sentence')))", "a sentence"),
        ("os.write(order[3], b'half')", "the process that asked Paddle ended"),
    ],
)
def test_a_process_without_answers_is_said_to_be_so(zoo: Zoo, child: str, sentence: str) -> None:
    with pytest.raises(NoAnswers, match=sentence):
        asked(zoo, child)


def test_a_process_that_does_not_answer_is_ended(zoo: Zoo) -> None:
    """By the real clock: the process never ends by itself, so the limit passes on any machine."""
    with pytest.raises(NoAnswers, match=r"did not answer within 0\.5 s"):
        asked(zoo, "time.sleep(1000)", longest_s=0.5)


def test_an_ended_load_ends_the_process(zoo: Zoo) -> None:
    load = Opening()

    class EndsAtOnce:
        check = load.check

        @contextlib.contextmanager
        def ended_by(self, end: Any) -> Iterator[None]:
            with load.ended_by(end):
                load.end()
                yield

    with pytest.raises(EngineClosed):
        asked(zoo, "time.sleep(1000)", load=EndsAtOnce())


def test_what_paddle_cannot_run_is_its_sentence(tmp_path: Path) -> None:
    kind, sentence = paddle_answers._asked(str(tmp_path / "nothing"), None, [])
    assert kind == "failure" and "does not exist" in sentence
