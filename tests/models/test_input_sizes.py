"""Inputs that are too small for a convolution are refused before they are queued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import Zoo

import paddleinfer
from paddleinfer.backends.paddle.installed import import_paddle
from paddleinfer.models.graph import Block, Graph, Operation, Output, TensorType
from paddleinfer.models.input_sizes import SizeCheck, TooSmall, size_check_of

FREE = TensorType((-1, -1, -1, -1), True)


def operation(kind: str, key: int, arguments: dict[str, Any], **attributes: Any) -> Operation:
    given = {name: value if isinstance(value, tuple) else (value,) for name, value in arguments.items()}
    return Operation(kind, kind, given, attributes, (Output(key, (FREE,)),))


def check(*operations: Operation) -> SizeCheck:
    """Over an image, key 1; key 2 is a kernel of 4x3x5x5."""
    constants = {2: TensorType((4, 3, 5, 5), True)}
    graph = Graph(Block(operations), constants, (Output(1, (FREE,)),), ())
    return SizeCheck(graph)


def convolution(x: int = 1, key: int = 9, **attributes: Any) -> Operation:
    return operation("conv2d", key, {"x": x, "argument_1": 2}, **attributes)


@pytest.mark.parametrize(
    ("attributes", "least"),
    [
        ({}, 5),
        ({"paddings": [2, 2]}, 1),
        ({"paddings": [1, 0, 1, 0]}, 4),
        ({"dilations": [2, 2]}, 9),
        ({"strides": [3, 3]}, 5),
        ({"padding_algorithm": "SAME"}, 1),
        ({"padding_algorithm": "VALID", "paddings": [2, 2]}, 5),
    ],
)
def test_a_kernel_has_to_fit_the_padded_input(attributes: dict[str, Any], least: int) -> None:
    sizes = check(convolution(**attributes))
    assert sizes.look_at([(1, 3, least, least)]) == (None, True)
    if least > 1:
        found, _ = sizes.look_at([(7, 3, least, least - 1)])
        assert found is not None and found.operator == "conv2d"


def test_sizes_are_followed_through_what_stands_before_a_convolution() -> None:
    steps = [
        operation("relu", 3, {"x": 1}),
        operation("full_int_array", 4, {}, value=[2, 2]),
        operation("pool2d", 5, {"x": 3, "argument_1": 4}, strides=[2, 2], paddings=[0, 0]),
        operation("add", 6, {"x": 5, "y": 5}),
        operation("full", 7, {}, value=2.0),
        operation("list_combine", 8, {"x": (6, 5)}),
        operation("concat", 10, {"x": 8, "axis": 7}),
    ]
    sizes = check(*steps, convolution(10))
    assert sizes.look_at([(1, 3, 6, 10)]) == (None, True)
    assert sizes.look_at([(1, 3, 4, 10)])[0] == TooSmall("conv2d", (4, 5), (5, 5))
    nearest = operation("nearest_interp", 3, {"x": 1}, scale=[2.0, 2.0], out_h=-1, out_w=-1)
    assert check(nearest, convolution(3)).look_at([(1, 3, 2, 3)])[0] == TooSmall("conv2d", (4, 6), (5, 5))


def test_what_is_not_followed_is_no_reason_to_refuse() -> None:
    sizes = check(operation("of_a_user", 3, {"x": 1}), convolution(3))
    assert sizes.look_at([(1, 3, 1, 1)]) == (None, False)
    malformed = check(convolution(strides="wide"))
    assert malformed.look_at([(1, 3, 9, 9)]) == (None, False)
    assert size_check_of(b'{"conv": 1}', legacy=False) is None
    assert size_check_of(b"\x0a\x05conv2d", legacy=True) is None


@pytest.mark.parametrize("onednn", [False, True])
def test_a_request_that_is_too_small_is_refused_and_the_engine_goes_on(
    tmp_path: Path, zoo: Zoo, onednn: bool
) -> None:
    paddle = import_paddle()
    nn = paddle.nn

    class Net(nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2D(3, 4, 3, stride=2)
            self.pool = nn.MaxPool2D(2)
            self.second = nn.Conv2D(4, 4, 3)

        def forward(self, x: Any) -> Any:
            return self.second(self.pool(self.first(x)))

    for format in zoo.formats:
        model = tmp_path / format
        paddleinfer.export(Net(), model, inputs={"x": ("float32", (-1, 3, -1, -1))}, format=format)
        for options in ({"driver": "native"}, {"driver": "python"}):
            with paddleinfer.Engine(model, onednn=onednn, ir_optim=True, instances=1, **options) as engine:
                for size in (2, 12):
                    with pytest.raises(paddleinfer.InvalidInput, match=r"x 1x3x\d+x20.* 'conv2d' would see "):
                        engine.infer({"x": np.ones((1, 3, size, 20), "float32")})
                assert engine.infer({"x": np.ones((2, 3, 13, 13), "float32")}).popitem()[1].shape == (
                    2,
                    4,
                    1,
                    1,
                )
                assert engine.stats()["requests"] == 1
