"""What a program's operators show about its rows, for models that Paddle exported and made-up programs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paddleinfer
from paddleinfer.backends.paddle.export import export
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.cli.main import main
from paddleinfer.models.graph import Block, Graph, Operation, Output, TensorType
from paddleinfer.models.reader import load_spec
from paddleinfer.models.rows.analysis import analyse

pytestmark = [
    pytest.mark.paddle3,
    pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface"),  # Paddle's, of its own call
]
paddle: Any = import_paddle()
F = paddle.nn.functional

Function = Callable[..., Any]
X = {"x": ("float32", (-1, 6))}
STEPS = {"x": ("float32", (-1, 4, 6))}
ANY_STEPS = {"x": ("float32", (-1, -1, 6))}
IMAGE = {"x": ("float32", (-1, 3, 8, 8))}
IDS = {"x": ("int64", (-1, 5))}


def _grows_until_large(x: Any) -> Any:
    while x.max() < 100:
        x = x * 2 + 1
    return x


def _branches_on_its_sum(x: Any) -> Any:
    y = x * 3
    if paddle.sum(x) > 0:
        y = x * 2
    return y


def _branches_on_the_rows(x: Any) -> Any:
    y = x * 3
    if paddle.shape(x)[0] > 2:
        y = x * 2
    return y


def _doubles_three_times(x: Any) -> Any:
    count = paddle.zeros([1], "int32")
    while count < 3:
        x = x * 2
        count = count + 1
    return x


def _steps_in_a_loop(x: Any) -> Any:
    state = paddle.zeros([x.shape[0], 6])
    step, steps = paddle.zeros([1], "int64"), paddle.shape(x)[1].astype("int64")
    while step < steps:
        state = state * 0.5 + paddle.gather(x, step, axis=1).squeeze(1)
        step = step + 1
    return state


def _heads(x: Any) -> Any:
    """Attention with the batch and the heads folded into one axis."""
    rows, steps = x.shape[0], x.shape[1]
    q = x.reshape([rows, steps, 2, 3]).transpose([0, 2, 1, 3]).reshape([-1, steps, 3])
    mixed = paddle.bmm(F.softmax(paddle.bmm(q, q.transpose([0, 2, 1])), -1), q)
    return mixed.reshape([rows, 2, steps, 3]).transpose([0, 2, 1, 3]).reshape([rows, steps, 6])


def _windows(x: Any) -> Any:
    """Windows of an image as rows of their own, and back."""
    y = (
        x.transpose([0, 2, 3, 1])
        .reshape([-1, 2, 4, 2, 4, 3])
        .transpose([0, 1, 3, 2, 4, 5])
        .reshape([-1, 16, 3])
    )
    y = F.softmax(y, 1).reshape([-1, 2, 2, 4, 4, 3]).transpose([0, 1, 3, 2, 4, 5])
    return y.reshape([-1, 8, 8, 3]).transpose([0, 3, 1, 2])


def _steps_first(x: Any) -> Any:
    y = x.transpose([1, 0, 2])
    y = y + paddle.arange(paddle.shape(y)[0]).astype("float32").reshape([-1, 1, 1])
    return F.softmax(y, 0)[-1]


def _picks_by_position(x: Any) -> Any:
    places = paddle.arange(paddle.shape(x)[0]).reshape([-1, 1])
    return paddle.gather_nd(x, paddle.concat([places, paddle.zeros_like(places)], 1))


MIXING: dict[str, tuple[Function, dict[str, Any], str]] = {
    "softmax": (lambda x: F.softmax(x, 0), X, "softmax"),
    "sum": (lambda x: x - x.sum(0, keepdim=True), X, "sum"),
    "mean of all": (lambda x: x - x.mean(), X, "mean"),
    "a result for all": (lambda x: (x * 2, x.max()), X, "max"),
    "cumsum": (lambda x: x.cumsum(0), X, "cumsum"),
    "sort": (lambda x: x.sort(0), X, "argsort"),
    "topk": (lambda x: paddle.topk(x, 1, 0)[0] + x, X, "topk"),
    "argmax": (lambda x: x.argmax(0).astype("float32") + x, X, "argmax"),
    "flip": (lambda x: x.flip([0]), X, "flip"),
    "roll": (lambda x: x.roll(1, 0), X, "roll"),
    "concat": (lambda x: paddle.concat([x, x * 2], 0), X, "concat"),
    "stack": (lambda x: paddle.stack([x, x * 2], 0), X, "stack"),
    "slice": (lambda x: x - x[:1], X, "slice"),
    "first row": (lambda x: x - x[0], X, "slice"),
    "every other row": (lambda x: x[::-1], X, "strided_slice"),
    "gather": (lambda x: x + paddle.gather(x, paddle.zeros([1], "int64")), X, "gather"),
    "index_select": (lambda x: x + paddle.index_select(x, paddle.zeros([1], "int64")), X, "index_select"),
    "transpose": (lambda x: x.transpose([1, 0]) * 2, X, "transpose"),
    "reshape": (lambda x: x.reshape([2, -1]) * 2, X, "reshape"),
    "fold": (lambda x: x.reshape([-1, 3]) * 2, X, "reshape"),
    "flatten": (lambda x: x.flatten() * 2, X, "flatten"),
    "folded softmax": (lambda x: F.softmax(x.reshape([-1, 3]), 0).reshape([-1, 6]), X, "softmax"),
    "unsqueeze": (lambda x: x.unsqueeze(0) * 2, X, "unsqueeze"),
    "squeeze": (lambda x: paddle.squeeze(x.sum(1, keepdim=True)) * 2, X, "squeeze"),
    "tile": (lambda x: x.tile([2, 1]) * 2, X, "tile"),
    "gram matrix": (lambda x: paddle.matmul(x, x, transpose_x=True), X, "matmul"),
    "similarity": (lambda x: paddle.matmul(x, x, transpose_y=True), X, "matmul"),
    "pairs": (lambda x: x.unsqueeze(0) + x.unsqueeze(1), X, "add"),
    "einsum": (lambda x: paddle.einsum("bi,ci->bc", x, x), X, "einsum"),
    "norm": (lambda x: F.normalize(x, axis=0), X, "p_norm"),
    "pad": (lambda x: F.pad(x, [1, 0, 0, 0]), X, "pad"),
    "nonzero": (lambda x: paddle.gather_nd(x, paddle.nonzero(x > 0)), X, "nonzero"),
    "masked_select": (lambda x: paddle.masked_select(x, x > 0), X, "masked_select"),
    "unique": (paddle.unique, IDS, "unique"),
    "nms": (
        lambda x: paddle.vision.ops.matrix_nms(x, x[:, :, :1].transpose([0, 2, 1]), 0.1, 0.1, 10, 10)[0],
        {"x": ("float32", (-1, 4, 4))},
        "matrix_nms",
    ),
    "longest mask": (lambda x: F.sequence_mask(x.sum(1)), IDS, "sequence_mask"),
    "number of rows": (lambda x: x / paddle.shape(x)[0].astype("float32"), X, "divide"),
    "place of a row": (
        lambda x: x + paddle.arange(paddle.shape(x)[0]).astype("float32").unsqueeze(1),
        X,
        "add",
    ),
    "while": (_grows_until_large, X, "while"),
    "if": (_branches_on_its_sum, X, "if"),
    "if by rows": (_branches_on_the_rows, X, "if"),
}

SEPARATE: dict[str, tuple[Function, dict[str, Any]]] = {
    "softmax": (lambda x: F.softmax(x, 1), X),
    "sum": (lambda x: x - x.sum(-1, keepdim=True), X),
    "cumsum": (lambda x: x.cumsum(1), X),
    "topk": (lambda x: paddle.topk(x, 2)[0], X),
    "slice": (lambda x: x[:, 1:3] * 2, X),
    "all of a slice": (lambda x: x[:] * 2, X),
    "gather": (lambda x: paddle.gather(x, paddle.zeros([2], "int64"), axis=1), X),
    "back again": (lambda x: (x.transpose([1, 0]) * 2).transpose([1, 0]), X),
    "fold and back": (lambda x: F.relu(x.reshape([-1, 3])).reshape([-1, 6]), X),
    "stack and sum": (lambda x: paddle.stack([x, x * 2], 0).sum(0), X),
    "two as one batch": (lambda x: paddle.concat([x, x * 2], 0).chunk(2, 0)[0], X),
    "reshape to zero": (lambda x: x.reshape([0, -1]), STEPS),
    "one class more": (lambda x: paddle.concat([paddle.ones_like(x[:, :1]), x], 1), STEPS),
    "bmm": (lambda x: paddle.bmm(x, x.transpose([0, 2, 1])), STEPS),
    "einsum": (lambda x: paddle.einsum("bi,bj->bij", x, x), X),
    "mask": (lambda x: F.sequence_mask(x.sum(1), maxlen=6), IDS),
    "one_hot": (lambda x: F.one_hot(x, 20).sum(1), IDS),
    "convolution": (lambda x: F.conv2d(x, paddle.ones([4, 3, 3, 3])), IMAGE),
    "pooling": (lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), IMAGE),
    "interpolation": (lambda x: F.interpolate(x, size=[16, 16]), IMAGE),
    "zeros": (lambda x: x + paddle.zeros([paddle.shape(x)[0], 6]), X),
    "constant loop": (_doubles_three_times, X),
    "loop over steps": (_steps_in_a_loop, ANY_STEPS),
    "heads": (_heads, ANY_STEPS),
    "windows": (_windows, IMAGE),
    "steps first": (_steps_first, ANY_STEPS),
    "by position": (_picks_by_position, STEPS),
}

# What Paddle 3 still exports in the legacy format.
LEGACY = {
    **dict.fromkeys(("back again", "softmax", "cumsum", "flip", "concat", "stack", "slice", "first row"), ""),
    **dict.fromkeys(("gather", "tile", "masked_select", "nms", "while"), ""),
    **{"sort": "argsort", "topk": "top_k_v2", "transpose": "transpose2", "reshape": "reshape2"},
    **{"fold": "reshape2", "unsqueeze": "unsqueeze2", "nonzero": "where_index"},
}
"""And what the operator is called there, if otherwise."""


def exported(function: Function, inputs: dict[str, Any], directory: Path, format: Any) -> Path:
    export(function, directory / "m", inputs=inputs, format=format)
    return directory / "m"


def formats(name: str) -> list[str]:
    return ["json", "legacy"] if name in LEGACY else ["json"]


@pytest.mark.parametrize(("name", "format"), [(name, one) for name in MIXING for one in formats(name)])
def test_rows_that_depend_on_each_other_are_told_by_the_operator(
    name: str, format: str, tmp_path: Path
) -> None:
    function, inputs, operator = MIXING[name]
    spec = load_spec(exported(function, inputs, tmp_path, format))
    assert (spec.batchable, spec.operators_forbid) == ("no", True)
    named = operator if format == "json" else LEGACY[name] or operator
    assert f"operator '{named}'" in spec.batchable_reason


@pytest.mark.parametrize(("name", "format"), [(name, one) for name in SEPARATE for one in formats(name)])
def test_rows_that_are_computed_by_themselves_are_not_condemned(
    name: str, format: str, tmp_path: Path
) -> None:
    spec = load_spec(exported(*SEPARATE[name], tmp_path, format))
    assert (spec.batchable, spec.operators_forbid) == ("unknown", False), spec.batchable_reason


def test_layers_for_sequences_are_not_condemned(tmp_path: Path) -> None:
    class Layers(paddle.nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = paddle.nn.LSTM(6, 5, direction="bidirect")
            self.encoder = paddle.nn.TransformerEncoderLayer(10, 2, 12)

        def forward(self, x: Any) -> Any:
            out, (_, cell) = self.lstm(x)
            return self.encoder(out), cell.transpose([1, 0, 2])

    spec = load_spec(exported(Layers(), ANY_STEPS, tmp_path, "json"))
    assert (spec.batchable, spec.batchable_reason) == (
        "unknown",
        "as far as its operators tell, each row is computed by itself",
    )


def test_an_explicit_true_overrules_the_operators_and_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = exported(MIXING["sum"][0], X, tmp_path, "json")
    x = np.ones((2, 6), "float32")
    with (
        caplog.at_level(logging.WARNING),
        paddleinfer.Engine(directory, batchable=True, instances=1) as engine,
    ):
        in_force = engine.effective_config()["batchable"]
        assert engine.infer(x)["fetch_name_0"].shape == (2, 6)
    assert (in_force["value"], in_force["source"]) == ("yes", "option")
    assert "the operator 'sum'" in in_force["note"]
    assert any("batchable=True" in record.message for record in caplog.records)


def test_inspect_shows_the_verdict_and_its_operator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = exported(MIXING["softmax"][0], X, tmp_path, "json")
    assert main(["inspect", str(directory), "--no-load"]) == 0
    assert "no: output 'fetch_name_0' depends on the operator 'softmax'" in capsys.readouterr().out


# Made-up programs

FREE = TensorType((-1, 6), True)


def program(*operations: Operation, output: int | str = "y") -> Graph:
    return Graph(Block(operations), {"w": TensorType((6,), True)}, (Output("x", (FREE,)),), (("y", output),))


def operation(kind: str, *arguments: str, type: TensorType = FREE, **attributes: object) -> Operation:
    slots = {f"argument_{place}" if place else "x": (key,) for place, key in enumerate(arguments)}
    return Operation(kind, kind, slots, attributes, (Output("y", (type,)),))


def verdict(*operations: Operation) -> tuple[str, str]:
    found = analyse(lambda: program(*operations))
    return found.batchable, found.reason


def test_an_unknown_operator_leaves_it_open() -> None:
    assert verdict(operation("my_operator", "x", "w")) == (
        "unknown",
        "what the operator 'my_operator' does to the rows is not known before a run",
    )


def test_an_unknown_operator_over_constants_is_a_constant() -> None:
    assert verdict(operation("my_operator", "w", type=TensorType((6,), True)))[1].startswith(
        "output 'y' is a constant"
    )


@pytest.mark.parametrize("axis", [None, "first", [[0]], [9], 2.5])
@pytest.mark.parametrize("kind", ["softmax", "sum", "transpose", "slice", "reshape", "gather", "concat"])
def test_attributes_of_the_wrong_kind_do_no_harm(kind: str, axis: object) -> None:
    names = ("axis", "perm", "shape", "axes", "starts", "ends")
    assert verdict(operation(kind, "x", **dict.fromkeys(names, axis)))[0] in ("unknown", "no")


def test_a_program_without_the_values_that_it_names_does_no_harm() -> None:
    assert verdict(operation("add", "lost", "x"))[0] == "unknown"


def test_batch_norm_in_training_form_mixes_the_rows() -> None:
    training = operation("batch_norm", "x", "w", is_test=False, use_global_stats=False)
    assert verdict(training)[0] == "no"
    assert "statistics of the batch" in verdict(training)[1]
    assert verdict(operation("batch_norm", "x", "w", is_test=True))[0] == "unknown"


def test_an_unreadable_program_leaves_it_open() -> None:
    def unreadable() -> Graph:
        raise ValueError("damaged")

    assert analyse(unreadable).batchable == "unknown"


def test_the_time_is_linear_in_the_depth_of_loops() -> None:
    looked: list[str] = []

    class Counted(dict[str, Any]):
        def get(self, name: Any, default: Any = None) -> Any:
            looked.append(name)
            return super().get(name, default)

    inner = Operation("relu", "relu", {"x": ("x",)}, Counted(), (Output("y", (FREE,)),))
    body = Block((inner, Operation("yield", "yield", {"x": ("w",)}, {}, ())))
    for _ in range(40):
        loop = Operation("while", "while", {"x": ("w",)}, {}, (), (body,))
        body = Block((loop, Operation("yield", "yield", {"x": ("w",)}, {}, ())))
    assert verdict(*body.operations[:1], operation("relu", "x"))[0] == "unknown"
    assert len(looked) < 100
