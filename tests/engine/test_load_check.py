"""Ready means that a request can succeed: one row runs at load."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import Zoo

import paddleinfer
from paddleinfer.backends.paddle.installed import import_paddle


def export(directory: Path, forward: Any, inputs: dict[str, tuple[str, tuple[int, ...]]]) -> Path:
    paddle = import_paddle()
    model = type("Model", (paddle.nn.Layer,), {"forward": forward})
    paddleinfer.export(model(), directory, inputs=inputs)
    return directory


def test_a_model_of_known_sizes_runs_one_row_at_load(zoo: Zoo) -> None:
    for format in zoo.formats:
        with paddleinfer.Engine(zoo.directory("mlp", format), instances=2) as engine:
            check = engine.effective_config()["check"]
            stats = engine.stats()
        assert check["value"] is True and check["note"].startswith("one row (1x16) ran at load, in ")
        assert stats["internal_runs"] == 1 and stats["requests"] == stats["executions"] == 0
    with paddleinfer.Engine(zoo.directory("mlp", zoo.formats[-1]), check=False) as engine:
        assert engine.effective_config()["check"] == {"value": False, "source": "option"}
        assert engine.stats()["internal_runs"] == 0


def test_free_sizes_take_those_of_the_option(zoo: Zoo) -> None:
    model = zoo.directory("conv", zoo.formats[-1])
    with paddleinfer.Engine(model) as engine:
        check = engine.effective_config()["check"]
        assert check["value"] is False and "'image'" in check["note"] and "example_shapes" in check["note"]
    with paddleinfer.Engine(model, example_shapes={"image": [3, 9, 8]}, max_batch_size=2) as engine:
        report = engine.effective_config()
        assert report["example_shapes"] == {"value": {"image": (3, 9, 8)}, "source": "option"}
        assert "(1x3x9x8)" in report["check"]["note"]
        assert list(engine.warmup().run_us) == [1, 2]


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        ({"picture": (3, 8, 8)}, "names the input 'picture', and the model's inputs are image"),
        ({"image": (4, 8, 8)}, "sizes 4x8x8 beyond the rows, and the model takes 3xanyxany"),
        ({"image": (3, 8)}, "sizes 3x8 beyond the rows"),
        ({"image": (3, 0, 8)}, "must map inputs to their sizes beyond the rows"),
        ({"image": "3,8,8"}, "must map inputs to their sizes beyond the rows"),
        ([("image", 3)], "must map inputs to their sizes beyond the rows"),
        ({"image": (3, True, 8)}, "integers from 1 to 2147483647"),
        ({"image": (3, 1 << 31, 8)}, "integers from 1 to 2147483647"),
    ],
)
def test_wrong_example_shapes_are_refused(zoo: Zoo, shapes: Any, sentence: str) -> None:
    with pytest.raises(paddleinfer.ConfigError, match=sentence):
        paddleinfer.Engine(zoo.directory("conv", zoo.formats[-1]), example_shapes=shapes)


def test_paddleocrs_sizes_beside_the_model_are_used(tmp_path: Path, zoo: Zoo) -> None:
    model = zoo.directory("conv", zoo.formats[-1])
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "inference.yml").write_text(
        "Hpi:\n  backend_configs:\n    paddle_infer:\n      trt_dynamic_shapes: &id001\n        image:\n"
        "        - - 1\n          - 3\n          - 8\n          - 8\n        - [1, 3, 12, 10]\n"
        "        - [4, 3, 64, 64]\n    tensorrt:\n      dynamic_shapes: *id001\n"
    )
    with paddleinfer.Engine(tmp_path) as engine:
        report = engine.effective_config()
    assert report["example_shapes"] == {
        "value": {"image": (3, 12, 10)},
        "source": "model",
        "note": "inference.yml names image from 3x8x8 to 3x64x64",
    }
    assert "(1x3x8x8)" in report["check"]["note"]


MOST = (1 << 31) - 1


@pytest.mark.parametrize("size", [MOST, 1 << 22], ids=["unaddressable", "larger than memory"])
def test_a_row_larger_than_memory_is_refused_in_a_sentence(zoo: Zoo, tmp_path: Path, size: int) -> None:
    model = zoo.directory("conv", zoo.formats[-1])
    sizes = {"image": (3, size, size)}
    with pytest.raises(
        paddleinfer.ModelLoadError,
        match=rf"\(1x3x{size}x{size}, as example_shapes has it\): one row of input .* max_queue_bytes",
    ):
        paddleinfer.Engine(model, example_shapes=sizes)
    with pytest.raises(paddleinfer.ConfigError, match=r"one row of input 'image' .* max_queue_bytes"):
        paddleinfer.Engine(model, example_shapes=sizes, check=False, warmup=True)
    for file in model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    shapes = f"        - [1, 3, {size}, {size}]\n" * 3
    (tmp_path / "inference.yml").write_text(
        "Hpi:\n  backend_configs:\n    paddle_infer:\n      trt_dynamic_shapes:\n        image:\n" + shapes
    )
    with pytest.raises(paddleinfer.ModelLoadError, match=r"as inference\.yml has it.*max_queue_bytes"):
        paddleinfer.Engine(tmp_path)


@pytest.mark.paddle3
@pytest.mark.parametrize("driver", ["native", "python"])
def test_what_no_values_would_change_is_an_error_at_load(tmp_path: Path, driver: str) -> None:
    paddle = import_paddle()

    def forward(self: Any, x: Any) -> Any:
        return paddle.reshape(x, [0, 7])

    model = export(tmp_path / "model", forward, {"x": ("float32", (-1, -1))})
    options = {"driver": driver, "example_shapes": {"x": (5,)}}
    with pytest.raises(
        paddleinfer.ModelLoadError,
        match=r"cannot run one row.*\(1x5, as example_shapes has it\).*ReshapeOp is invalid.*check=False",
    ):
        paddleinfer.Engine(model, **options)
    with paddleinfer.Engine(model, check=False, **options) as engine:
        assert engine.infer({"x": np.ones((1, 7), "float32")})["fetch_name_0"].shape == (1, 7)


@pytest.mark.paddle3
def test_a_failing_check_leaves_the_model_before_in_service(tmp_path: Path, zoo: Zoo) -> None:
    paddle = import_paddle()

    def forward(self: Any, x: Any) -> Any:
        return paddle.reshape(x[:, :3], [0, 2])

    broken = export(tmp_path / "model", forward, {"x": ("float32", (-1, 16))})
    with paddleinfer.Engine(zoo.directory("mlp"), instances=1) as engine:
        with pytest.raises(paddleinfer.ModelLoadError, match="the model loaded before stays in service"):
            engine.reload(broken)
        engine.infer([np.ones((1, 16), "float32")])


@pytest.mark.paddle3
def test_made_up_values_that_no_request_would_have_are_no_reason_to_refuse(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def divide(self: Any, a: Any, b: Any) -> Any:
        return a // b

    def picky(self: Any, a: Any, b: Any) -> Any:
        return a // ((b - 1) * b)  # of b only 0 and 1 are made up

    inputs = {name: ("int64", (-1, 2)) for name in "ab"}
    caplog.set_level(logging.WARNING, "paddleinfer")
    with paddleinfer.Engine(export(tmp_path / "divide", divide, inputs)) as engine:
        assert engine.effective_config()["check"]["note"].startswith("one row (1x2, 1x2) ran")
    assert caplog.text == ""
    with paddleinfer.Engine(export(tmp_path / "picky", picky, inputs)) as engine:
        assert "those of a request may" in engine.effective_config()["check"]["note"]
        engine.infer({"a": np.full((1, 2), 6), "b": np.full((1, 2), 2)})
    assert "division by zero" in caplog.text


@pytest.mark.paddle3
def test_a_model_that_takes_rows_in_groups_opens_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A video model's rows are frames, and one frame is no clip."""
    paddle = import_paddle()

    def forward(self: Any, x: Any) -> Any:
        return paddle.reshape(x, [-1, 3, 4]).mean(1)

    model = export(tmp_path / "model", forward, {"x": ("float32", (-1, 4))})
    with paddleinfer.Engine(model) as engine:
        assert "no row of made-up values ran" in caplog.text
        assert engine.effective_config()["check"]["note"].startswith("no row of made-up values ran")
        frames = np.arange(48, dtype="float32").reshape(12, 4)
        result = engine.infer({"x": frames})["fetch_name_0"]
        np.testing.assert_allclose(result, frames.reshape(4, 3, 4).mean(1))


def test_a_function_is_not_called_at_load() -> None:
    calls = []
    with paddleinfer.Engine.from_callable(calls.append, {"x": ("float32", (-1, 1))}, ["y"]) as engine:
        assert engine.effective_config()["check"]["value"] is False
    assert calls == []


@pytest.mark.paddle3
def test_a_model_without_inputs_is_called_with_none(tmp_path: Path) -> None:
    paddle = import_paddle()

    class Table(paddle.nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.table = self.create_parameter(
                [2, 3], default_initializer=paddle.nn.initializer.Constant(2.0)
            )

        def forward(self) -> Any:
            return self.table * 2

    static = paddle.jit.to_static(Table(), input_spec=[], full_graph=True)
    paddle.jit.save(static, str(tmp_path / "model" / "inference"))
    for driver in ("native", "python"):
        with paddleinfer.Engine(tmp_path / "model", driver=driver) as engine:
            assert engine.effective_config()["check"]["note"].startswith("one row (no inputs) ran")
            for feeds in ({}, []):
                (out,) = engine.infer(feeds).values()
                np.testing.assert_array_equal(out, np.full((2, 3), 4, "float32"))
            with pytest.raises(paddleinfer.InvalidInput, match="no input 'x'"):
                engine.infer({"x": np.ones((1, 1), "float32")})
