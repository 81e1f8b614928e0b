"""export: the exported model computes what the layer does, and every mistake is one sentence."""

from __future__ import annotations

import functools
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")

from paddleinfer.backends.paddle.export import export  # noqa: E402
from paddleinfer.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:When training, we now always track:UserWarning")

PADDLE_3 = int(paddle.__version__.split(".")[0] or 0) >= 3
FORMATS = ["json", "legacy"] if PADDLE_3 else ["legacy"]
PROGRAMS = {"json": "inference.json", "legacy": "inference.pdmodel"}
OWN_FORMAT = FORMATS[0]
X = {"x": ("float32", (-1, 4))}


def run(directory: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The first output, by Paddle's own predictor; also checks the input names."""
    from paddle.inference import Config, create_predictor

    (program,) = [path for path in directory.iterdir() if path.suffix in (".json", ".pdmodel")]
    parameters = program.with_suffix(".pdiparams")
    config = Config(str(program), str(parameters) if parameters.exists() else "")
    config.disable_glog_info()
    predictor = create_predictor(config)
    assert sorted(predictor.get_input_names()) == sorted(feeds)
    for name, array in feeds.items():
        handle = predictor.get_input_handle(name)
        handle.reshape(list(array.shape))
        handle.copy_from_cpu(array)
    predictor.run()
    result: np.ndarray = predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()
    return result


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).random(shape, dtype=np.float32)


def linear() -> Any:
    paddle.seed(1)
    return paddle.nn.Linear(4, 3)


def convolution() -> Any:
    """Batch norm with moved statistics and dropout: wrong in train mode."""
    paddle.seed(2)
    layer = paddle.nn.Sequential(
        paddle.nn.Conv2D(1, 4, 3),
        paddle.nn.BatchNorm2D(4),
        paddle.nn.ReLU(),
        paddle.nn.Dropout(0.5),
        paddle.nn.Flatten(),
        paddle.nn.Linear(4 * 6 * 6, 3),
    )
    layer.train()
    layer(paddle.to_tensor(rows(16, 1, 8, 8) + 3))
    return layer


@pytest.mark.parametrize("format", FORMATS)
def test_a_layer_in_train_mode_is_exported_in_eval_mode(format: str, tmp_path: Path) -> None:
    layer, x = convolution(), rows(2, 1, 8, 8)
    directory = export(layer, tmp_path / "m", {"x": ("float32", (-1, 1, 8, 8))}, format=format)
    assert (directory / PROGRAMS[format]).exists()
    layer.eval()
    np.testing.assert_allclose(
        run(directory, {"x": x}), layer(paddle.to_tensor(x)).numpy(), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("format", FORMATS)
def test_every_sublayer_gets_its_own_mode_back_and_still_trains(format: str, tmp_path: Path) -> None:
    layer = convolution()
    layer[1].eval()
    export(layer, tmp_path / "m", {"x": ("float32", (-1, 1, 8, 8))}, format=format)
    assert [sub.training for sub in layer] == [True, False, True, True, True, True]
    layer(paddle.to_tensor(rows(2, 1, 8, 8))).sum().backward()
    assert layer[0].weight.grad is not None
    assert paddle.in_dynamic_mode()


def test_both_formats_can_be_written_in_turn_by_one_process(tmp_path: Path) -> None:
    layer, x = linear(), rows(2, 4)
    for turn, format in enumerate(FORMATS * 2):
        directory = export(layer, tmp_path / str(turn), X, format=format)
        np.testing.assert_allclose(run(directory, {"x": x}), layer(paddle.to_tensor(x)).numpy(), rtol=1e-5)


class Decorated(paddle.nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    @paddle.jit.to_static  # type: ignore[untyped-decorator]
    def forward(self, x: Any) -> Any:
        return self.inner(x)

    def doubled(self, x: Any) -> Any:
        return self.inner(x) * 2


@pytest.mark.parametrize("format", FORMATS)
def test_a_decorated_layer_keeps_its_decoration_and_the_given_names(format: str, tmp_path: Path) -> None:
    x = rows(2, 4)
    by_class, by_call = Decorated(), paddle.jit.to_static(linear())
    want = [by_class(paddle.to_tensor(x)).numpy(), by_call(paddle.to_tensor(x)).numpy()]
    for turn, layer in enumerate([by_class, by_call]):
        directory = export(layer, tmp_path / str(turn), {"rows": ("float32", (-1, 4))}, format=format)
        np.testing.assert_allclose(run(directory, {"rows": x}), want[turn], rtol=1e-5)
        assert hasattr(layer.forward, "dygraph_function")
    assert "forward" not in vars(by_class)


held = linear()
decorated = Decorated()


def through_a_global(x: Any) -> Any:
    return held(x) + 1


class Holder:
    def __init__(self) -> None:
        self.inner = linear()

    def __call__(self, x: Any) -> Any:
        return self.inner(x) * 3


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda x: x * 2 + 1, id="lambda"),
        pytest.param(functools.partial(paddle.scale, scale=3.0), id="partial"),
        pytest.param(decorated.doubled, id="method"),
        pytest.param(decorated.forward, id="decorated method"),
        pytest.param(through_a_global, id="function over a layer"),
        pytest.param(paddle.jit.to_static(through_a_global), id="decorated function"),
        pytest.param(Holder(), id="callable object"),
    ],
)
def test_anything_callable_is_exported_with_the_weights_it_uses(
    source: Any, format: str, tmp_path: Path
) -> None:
    x = rows(2, 4)
    plain = getattr(source, "dygraph_function", source)
    directory = export(source, tmp_path / "m", X, format=format)
    np.testing.assert_allclose(run(directory, {"x": x}), plain(paddle.to_tensor(x)).numpy(), rtol=1e-5)


def minus(a: Any, b: Any, scale: float = 2.0) -> Any:
    return a - b * scale


def test_inputs_named_as_parameters_are_passed_by_name(tmp_path: Path) -> None:
    spec = ("float32", (-1, 4))
    directory = export(minus, tmp_path / "m", {"b": spec, "a": spec}, format=OWN_FORMAT)
    a, b = rows(2, 4), rows(2, 4) + 1
    np.testing.assert_allclose(run(directory, {"a": a, "b": b}), a - 2 * b, rtol=1e-5)


def test_inputs_with_other_names_are_passed_in_order(tmp_path: Path) -> None:
    spec = ("float32", (-1, 4))
    directory = export(minus, tmp_path / "m", {"left": spec, "right": spec}, format=OWN_FORMAT)
    left, right = rows(2, 4), rows(2, 4) + 1
    np.testing.assert_allclose(run(directory, {"left": left, "right": right}), left - 2 * right, rtol=1e-5)


TensorLike = namedtuple("TensorLike", "name alias dtype shape")


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param((np.float32, [None, 4]), id="numpy type"),
        pytest.param((np.dtype("float32"), (-1, 4)), id="numpy dtype"),
        pytest.param((paddle.float32, (-1, 4)), id="paddle dtype"),
        pytest.param(TensorLike("x", "x", "float32", (-1, 4)), id="TensorSpec"),
        pytest.param(paddle.static.InputSpec([None, 4], "float32"), id="InputSpec"),
    ],
)
def test_a_spec_may_come_in_any_usual_form(spec: Any, tmp_path: Path) -> None:
    directory = export(lambda x: x * 2, tmp_path / "m", {"x": spec}, format=OWN_FORMAT)
    np.testing.assert_array_equal(run(directory, {"x": rows(3, 4)}), rows(3, 4) * 2)


def test_integer_ids_are_exported_as_integers(tmp_path: Path) -> None:
    layer = paddle.nn.Embedding(10, 3)
    ids = np.array([[1, 2], [3, 9]], np.int64)
    directory = export(layer, tmp_path / "m", {"ids": ("int64", (-1, -1))}, format=OWN_FORMAT)
    np.testing.assert_array_equal(run(directory, {"ids": ids}), layer(paddle.to_tensor(ids)).numpy())


# -- files -------------------------------------------------------------------------------------------


def test_missing_directories_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    directory = export(linear(), tmp_path / "a" / "b", X, format=OWN_FORMAT, name="net")
    assert directory == tmp_path / "a" / "b"
    assert {path.stem for path in directory.iterdir()} <= {"net", "net.pdiparams"}
    assert [path.name for path in directory.parent.iterdir()] == ["b"]


def test_exporting_again_leaves_one_model_and_other_files_alone(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("kept")
    for format in [*FORMATS, FORMATS[0]]:
        export(linear(), tmp_path, X, format=format)
    export(lambda x: x * 2, tmp_path, X, format=FORMATS[-1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [PROGRAMS[FORMATS[-1]], "labels.txt"]
    np.testing.assert_array_equal(run(tmp_path, {"x": rows(2, 4)}), rows(2, 4) * 2)


def test_a_failed_export_leaves_the_earlier_one(tmp_path: Path) -> None:
    def failing(x: Any) -> Any:
        raise ValueError("this model is broken")

    directory = export(linear(), tmp_path / "m", X, format=OWN_FORMAT)
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(ConfigError, match=r"cannot export failing .* this model is broken"):
        export(failing, directory, X, format=OWN_FORMAT)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert list(tmp_path.iterdir()) == [directory]


# -- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"format": "onnx"}, 'format must be "json" or "legacy"'),
        ({"name": "../inference"}, "name must be a plain file stem"),
        ({"inputs": {}}, "inputs must map at least one input name"),
        ({"inputs": [("float32", (-1, 4))]}, "inputs must map at least one input name"),
        ({"inputs": {1: ("float32", (-1, 4))}}, "name must be a string"),
        ({"inputs": {"x": "float32"}}, r"input 'x' must be given as \(dtype, shape\)"),
        ({"inputs": {"x": ("complex64", (-1, 4))}}, "input 'x' has dtype 'complex64'"),
        ({"inputs": {"x": (object, (-1, 4))}}, "input 'x' has dtype"),
        ({"inputs": {"x": ("float32", 4)}}, "input 'x' needs a shape"),
        ({"inputs": {"x": ("float32", (-1, 0))}}, "dimensions are positive, or -1"),
        ({"inputs": {"x": ("float32", (-1, 2.5))}}, "dimensions are positive, or -1"),
        ({"layer_or_function": "model"}, "a paddle.nn.Layer or a function is needed"),
        ({"layer_or_function": minus, "inputs": {"c": ("float32", (-1,))}}, "does not take the inputs"),
    ],
)
def test_a_wrong_argument_is_named_in_a_sentence(
    arguments: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    good = {"layer_or_function": held, "directory": tmp_path / "m", "inputs": X, "format": OWN_FORMAT}
    with pytest.raises(ConfigError, match=sentence):
        export(**{**good, **arguments})
    assert not (tmp_path / "m").exists()


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").write_text("")
    with pytest.raises(ConfigError, match="is a file, not a directory"):
        export(held, tmp_path / "m", X)


def test_static_mode_is_refused(tmp_path: Path) -> None:
    paddle.enable_static()
    try:
        with pytest.raises(ConfigError, match=r"call paddle.disable_static\(\) first"):
            export(held, tmp_path / "m", X)
    finally:
        paddle.disable_static()


def test_weights_out_of_sight_are_refused_instead_of_dropped(tmp_path: Path) -> None:
    def hidden(x: Any) -> Any:
        return {"layers": [linear_in_a_list[0]]}["layers"][0](x)

    linear_in_a_list = [linear()]
    with pytest.raises(ConfigError, match="cannot export hidden"):
        export(hidden, tmp_path / "m", X, format=OWN_FORMAT)


@pytest.mark.paddle3
def test_an_operator_without_a_legacy_export_says_which_format_has_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='use format="json"'):
        export(paddle.nn.Sigmoid(), tmp_path / "m", X, format="legacy")
    export(paddle.nn.Sigmoid(), tmp_path / "m", X, format="json")


@pytest.mark.paddle2
def test_a_paddle_without_the_json_format_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='use format="legacy"'):
        export(held, tmp_path / "m", X, format="json")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("weights", [True, False])
def test_an_engine_runs_what_was_exported(weights: bool, format: str, tmp_path: Path) -> None:
    import paddleinfer

    source = linear() if weights else (lambda x: x * 2 + 1)
    directory = paddleinfer.export(source, tmp_path / "m", {"rows": ("float32", (-1, 4))}, format=format)
    with paddleinfer.Engine(directory, instances=1) as engine:
        (result,) = engine.infer({"rows": rows(3, 4)}).values()
    np.testing.assert_allclose(result, source(paddle.to_tensor(rows(3, 4))).numpy(), rtol=1e-5)
