"""``paddleinfer.verify`` compares a model's answers alone, in a batch, padded, and in another runtime."""

from __future__ import annotations

import importlib
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import Zoo

import paddleinfer
from paddleinfer import Agreement, Certificate, PadAxis
from paddleinfer.engine.differences import Differences
from paddleinfer.engine.paddle_answers import NoAnswers, answers_of_paddle
from paddleinfer.engine.verification_cases import padded_length
from paddleinfer.errors import ConfigError, InvalidInput, ModelError, ModelLoadError
from paddleinfer.models.reader import load_spec

pytestmark = pytest.mark.on_paddle

pytest.importorskip("paddle")
module = importlib.import_module("paddleinfer.engine.verify")


@pytest.fixture
def paddle_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other runtime, whatever is installed."""

    def none(*_: Any) -> Any:
        raise paddleinfer.ConfigError("onnxruntime is not installed")

    monkeypatch.setattr(module, "_other_backend", none)


def verified(zoo: Zoo, name: str, inputs: Any = None, **options: Any) -> Certificate:
    return paddleinfer.verify(zoo.directory(name, zoo.formats[0]), inputs, **options)


def of(certificate: Certificate, compared: str) -> list[Agreement]:
    return [one for one in certificate.agreements if one.compared == compared]


@pytest.mark.usefixtures("paddle_alone")
def test_independent_rows_agree_with_the_difference_and_the_inputs(zoo: Zoo) -> None:
    certificate = verified(zoo, "mlp")
    assert certificate.holds and certificate.faults == []
    (batched,) = of(certificate, "batched")
    assert batched.difference <= batched.allowed < 1e-3 and batched.reason == ""
    assert batched.inputs.endswith("of made-up inputs 3x16")
    assert certificate.inputs == ("made-up inputs 3x16",)
    assert certificate.runtime.startswith("paddlepaddle")
    assert certificate.not_compared == {
        "padded": "pad is not set",
        "runtime": "onnxruntime is not installed",
    }


@pytest.mark.usefixtures("paddle_alone")
def test_rows_that_depend_on_each_other_do_not_hold(zoo: Zoo) -> None:
    certificate = verified(zoo, "centred")
    assert not certificate.holds
    (batched,) = of(certificate, "batched")
    assert not batched.holds and batched.difference > 0.1
    (fault,) = certificate.faults
    assert "differs by" in fault and "between in a batch and alone, where 1e-06 is allowed, on row" in fault


@pytest.mark.usefixtures("paddle_alone")
def test_a_lone_given_row_gets_neighbours_that_show_dependence(zoo: Zoo) -> None:
    certificate = verified(zoo, "centred", {"x": np.array([[1, 2, 3]], "float32")})
    assert not certificate.holds
    assert certificate.inputs == ("the given row and neighbours made of it, 3x3",)


@pytest.mark.usefixtures("paddle_alone")
def test_an_output_without_a_row_for_each_does_not_hold_and_the_other_does(zoo: Zoo) -> None:
    certificate = verified(zoo, "scalar")
    first, second = of(certificate, "batched")
    assert first.holds and not second.holds
    assert "has the shape () for 3 rows" in second.reason and math.isinf(second.difference)


@pytest.mark.usefixtures("paddle_alone")
def test_given_rows_are_compared_in_batches_of_the_engines_size(zoo: Zoo) -> None:
    rows = np.random.default_rng(1).random((7, 16), "float32")
    certificate = verified(zoo, "mlp", {"x": rows}, max_batch_size=4)
    assert certificate.holds
    assert certificate.inputs == (
        "rows 1 to 4 of the given inputs 7x16",
        "rows 5 to 7 of the given inputs 7x16",
    )


@pytest.mark.parametrize("options", [{"batchable": False}, {"max_batch_size": 1}])
@pytest.mark.usefixtures("paddle_alone")
def test_requests_that_never_share_a_run_are_not_compared_in_one(zoo: Zoo, options: dict[str, Any]) -> None:
    certificate = verified(zoo, "centred", **options)
    assert certificate.holds and not certificate.agreements
    assert "by itself" in certificate.not_compared["batched"]


@pytest.mark.usefixtures("paddle_alone")
def test_values_that_are_not_finite_agree_and_are_counted(zoo: Zoo) -> None:
    certificate = paddleinfer.verify(zoo.directory("constant-nan", "legacy"))
    (name,) = certificate.not_finite
    assert certificate.holds and certificate.not_finite[name] == 9


def padded_sums(zoo: Zoo, tmp_path: Path, layer: str) -> Certificate:
    """Of a model over rows of any length, padded to multiples of 8."""
    paddle = pytest.importorskip("paddle")

    class Doubling(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x * 2

    class Centring(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return x - x.mean(1, keepdim=True)

    model = Doubling() if layer == "double" else Centring()
    paddleinfer.export(model, tmp_path / "m", inputs={"x": ("float32", (-1, -1))}, format=zoo.formats[-1])
    (output,) = (tensor.name for tensor in load_spec(tmp_path / "m").outputs)
    pad = PadAxis({"x": 1}, outputs={output: 1}, multiple=8)
    return paddleinfer.verify(tmp_path / "m", pad=[pad], example_shapes={"x": (24,)}, batchable=True)


@pytest.mark.usefixtures("paddle_alone")
def test_padding_that_changes_nothing_holds_on_rows_that_get_much_of_it(zoo: Zoo, tmp_path: Path) -> None:
    certificate = padded_sums(zoo, tmp_path, "double")
    assert certificate.holds
    (padded,) = of(certificate, "padded")
    assert padded.inputs == "row 1 of made-up inputs 3x17, padded to 1x24"


@pytest.mark.usefixtures("paddle_alone")
def test_padding_that_changes_results_does_not_hold(zoo: Zoo, tmp_path: Path) -> None:
    certificate = padded_sums(zoo, tmp_path, "centre")
    assert not certificate.holds and all(one.holds for one in of(certificate, "batched"))
    assert "between padded and alone" in certificate.faults[0]


@pytest.mark.parametrize(
    ("pad", "usual", "length"),
    [
        ({"multiple": 32}, 320, 289),
        ({"multiple": 32}, 20, 16),
        ({"multiple": 32, "max_waste": 0.01}, 320, 317),
        ({"multiple": 32, "max_waste": 0}, 320, 320),
        ({"sizes": (64, 128)}, 100, 65),
        ({"sizes": (64, 128)}, 64, 32),
        ({"sizes": (64, 128)}, 1000, 65),
        ({"multiple": 2}, 1, 1),
    ],
)
def test_made_up_lengths_are_those_that_get_the_most_padding(
    pad: dict[str, Any], usual: int, length: int
) -> None:
    assert padded_length(PadAxis({"x": 1}, **pad), usual) == length


def test_integers_that_name_equal_values_are_a_tie() -> None:
    found = Differences(["scores", "best"])
    alone = {"scores": np.array([[0.0, 5, 5.000001]], "float32"), "best": np.array([2])}
    together = {**alone, "best": np.array([1])}
    found.saw(alone)
    found.compare("batched", together, alone, "a row")
    assert [one.holds for one in found.agreements()] == [True, True]
    found.compare("batched", {"best": np.array([0])}, alone, "a row")
    assert found.agreements()[1].reason == "is not equal in a batch and alone"


def test_a_model_that_fails_in_a_batch_does_not_hold() -> None:
    found = Differences(["y", "z"])
    found.fail("batched", "is not given for 3 rows together", "some rows")
    assert [(one.output, one.holds) for one in found.agreements()] == [("y", False), ("z", False)]


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"y": np.ones((1, 16), "float32")}, "y"),
        ({"x": np.ones((1, 17), "float32")}, "dimension 1 must be 16"),
        ({"x": np.ones((1, 16), "complex64")}, "takes float32, not complex64"),
        ({"x": np.ones((0, 16), "float32")}, "no rows"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(zoo: Zoo, inputs: Any, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        verified(zoo, "mlp", inputs)


def test_free_sizes_that_nothing_gives_are_refused(zoo: Zoo) -> None:
    with pytest.raises(InvalidInput, match="'image' has the shape"):
        verified(zoo, "conv")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="does not exist"):
        paddleinfer.verify(tmp_path / "none")


@pytest.mark.usefixtures("paddle_alone")
def test_a_failure_on_given_values_is_the_models_own(zoo: Zoo) -> None:
    with pytest.raises(ModelError):
        verified(zoo, "embedding", {"ids": np.full((1, 6), 1000)})


@pytest.mark.usefixtures("paddle_alone")
def test_it_runs_on_any_thread(zoo: Zoo) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(verified, zoo, "mlp").result().holds


@pytest.mark.usefixtures("paddle_alone")
def test_the_inputs_of_the_option_are_used_where_none_are_given(zoo: Zoo, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 16), "float32"))
    assert verified(zoo, "mlp", verify_inputs=tmp_path / "x.npy").inputs == ("the given inputs 2x16",)
    rows = {"x": np.ones((3, 16), "float32")}
    assert verified(zoo, "mlp", rows, verify_inputs=tmp_path / "x.npy").inputs == ("the given inputs 3x16",)
    with pytest.raises(ConfigError, match=r"verify_inputs names .* cannot be read"):
        verified(zoo, "mlp", verify_inputs=tmp_path / "none.npz")


# -- another runtime


@pytest.mark.onnx
@pytest.mark.paddle3
@pytest.mark.parametrize(
    ("backend", "other"),
    [("paddle", "onnxruntime"), ("onnxruntime", "onnxruntime"), ("openvino", "OpenVINO")],
)
def test_both_runtimes_agree(zoo: Zoo, tmp_path: Path, backend: Any, other: str) -> None:
    certificate = verified(zoo, "mlp", backend=backend, onnx_cache=tmp_path)
    (runtime,) = of(certificate, "runtime")
    assert certificate.holds and runtime.holds and runtime.magnitude > 0.1
    names = {certificate.runtime.split()[0], str(certificate.other_runtime).split()[0]}
    assert names == {"paddlepaddle", other}


@pytest.mark.onnx
@pytest.mark.paddle3
def test_paddle_is_compared_with_openvino_where_onnxruntime_is_missing(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {"openvino": ("openvino", "2026.4.1")}
    monkeypatch.setattr(module, "installed_runtimes", lambda: installed)
    certificate = verified(zoo, "mlp", onnx_cache=tmp_path)
    assert certificate.holds and str(certificate.other_runtime).startswith("OpenVINO 2026.")


@pytest.mark.onnx
@pytest.mark.paddle3
def test_a_runtime_that_was_asked_for_must_be_compared(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> Any:
        raise NoAnswers("Paddle cannot run it")

    monkeypatch.setattr(module, "answers_of_paddle", none)
    certificate = verified(zoo, "mlp", backend="onnxruntime", onnx_cache=tmp_path)
    assert not certificate.holds and certificate.not_compared["runtime"] == "Paddle cannot run it"
    assert certificate.faults == [certificate.lacking] and "could not be compared" in certificate.lacking


@pytest.mark.onnx
@pytest.mark.paddle3
def test_other_answers_of_another_runtime_do_not_hold(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*arguments: Any) -> Any:
        found = answers_of_paddle(*arguments)
        return [{name: output * np.float32(1.01) for name, output in one.items()} for one in found]

    monkeypatch.setattr(module, "answers_of_paddle", changed)
    certificate = verified(zoo, "mlp", backend="onnxruntime", onnx_cache=tmp_path)
    (fault,) = certificate.faults
    assert "between the runtimes" in fault and not of(certificate, "runtime")[0].holds


@pytest.mark.onnx
@pytest.mark.paddle3
def test_a_model_that_is_not_converted_is_not_compared_and_holds(zoo: Zoo, tmp_path: Path) -> None:
    certificate = verified(zoo, "unconvertible", onnx_cache=tmp_path)
    assert certificate.holds and "its operator erfinv" in certificate.not_compared["runtime"]


@pytest.mark.onnx
@pytest.mark.paddle3
def test_values_that_are_not_finite_are_counted_once(zoo: Zoo, tmp_path: Path) -> None:
    model = zoo.directory("constant-inf", "legacy")
    certificate = paddleinfer.verify(model, backend="onnxruntime", onnx_cache=tmp_path)
    assert certificate.holds and list(certificate.not_finite.values()) == [9]
