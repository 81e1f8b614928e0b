"""The useful line of a failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paddleinfer
from paddleinfer.backends.paddle.errors import is_about_values, is_of_onednn, useful_line
from paddleinfer.backends.paddle.installed import import_paddle

_REPORT = """

--------------------------------------
C++ Traceback (most recent call last):
--------------------------------------
0   paddle_infer::Predictor::Run()
1   phi::EmbeddingKernel<float, phi::CPUContext>()

----------------------
Error Message Summary:
----------------------
InvalidArgumentError: Variable value (input) of OP(fluid.layers.embedding) is wrong
"""

# Of a kernel that looks at each element.
_ELEMENT = """In user code:

    File "net.py", line 12, in forward
      return a // b

    Error: InvalidArgumentError: Integer division by zero encountered in divide. Check it. (at /f.h:326)
      [operator < pd_kernel.phi_kernel > error]"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "C++ stack\n  (InvalidArgument) The shape is wrong.\n"
            "  [Hint: Expected a == b, but received a:1 != b:2.] (at /paddle/x.cc:12)\n",
            "(InvalidArgument) The shape is wrong. [Expected a == b, but received a:1 != b:2]",
        ),
        ("(NotFound) No file. (at /paddle/y.cc:3)", "(NotFound) No file."),
        ("ValueError: no", "ValueError: no"),
        ("\n\n first\nsecond", "first"),
        ("", "the model failed without a message"),
        (
            "ValueError: In user code:\n\n\n    InvalidArgumentError: Variable value (input) expected < 50, "
            "but got 99. Please check input value.\n      [Hint: Expected ids < 50, but received ids:99 >= "
            "50.] (at /paddle/embedding.cc:63)\n      [operator < pd_kernel.phi_kernel > error]",
            "InvalidArgumentError: Variable value (input) expected < 50, but got 99. Please check input "
            "value. "
            "[Expected ids < 50, but received ids:99 >= 50]",
        ),
        (_ELEMENT, "InvalidArgumentError: Integer division by zero encountered in divide. Check it."),
        (
            "RuntimeError: " + _ELEMENT,
            "InvalidArgumentError: Integer division by zero encountered in divide. Check it.",
        ),
        (
            'In user code:\n\n    File "net.py", line 3, in forward\n      return a // b\n'
            '    File "more.py", line 9, in call\n\n    the kernel has no reason of a known form\n'
            "      [operator < pd_kernel.phi_kernel > error]",
            "the kernel has no reason of a known form",
        ),
        (
            "In user code:\n\n    ExternalError: CUDNN_STATUS_BAD_PARAM (at /paddle/conv.cu:3)\n",
            "ExternalError: CUDNN_STATUS_BAD_PARAM",
        ),
        (
            "std::exception",
            "Paddle gave no reason (std::exception), as where its oneDNN cannot run an operator",
        ),
        (_REPORT, "InvalidArgumentError: Variable value (input) of OP(fluid.layers.embedding) is wrong"),
    ],
)
def test_the_useful_line_is_found(text: str, line: str) -> None:
    assert useful_line(text) == line


@pytest.mark.parametrize(
    ("text", "onednn", "values"),
    [
        ("(Unimplemented) attribute [x] (at /paddle/x.cc:1)", True, False),
        ("NotImplementedError: (Unimplemented) attribute [x]", True, False),
        ("UnimplementedError: attribute [x]", True, False),
        ("std::exception", True, False),
        ("RuntimeError: std::exception", True, False),
        (_ELEMENT, False, True),
        (_REPORT, False, True),
        ("(OutOfRange) index 7", False, True),
        ("(NotFound) no kernel", False, False),
        ("ValueError: std::exception was expected", False, False),
    ],
)
def test_a_failure_is_sorted_by_its_kind(text: str, onednn: bool, values: bool) -> None:
    assert (is_of_onednn(text), is_about_values(text)) == (onednn, values)


@pytest.mark.paddle3
@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("driver", ["native", "python"])
def test_a_division_by_zero_is_told_with_its_reason(tmp_path: Path, driver: str, onednn: bool) -> None:
    paddle = import_paddle()

    class Divide(paddle.nn.Layer):  # type: ignore[misc]
        def forward(self, a: Any, b: Any) -> Any:
            return a // b

    inputs = {name: ("int64", (-1, 2)) for name in "ab"}
    paddleinfer.export(Divide(), tmp_path / "model", inputs=inputs)
    ones = np.ones((1, 2), "int64")
    with paddleinfer.Engine(tmp_path / "model", driver=driver, onednn=onednn) as engine:
        with pytest.raises(paddleinfer.ModelError, match="division by zero"):
            engine.infer({"a": ones, "b": ones * 0})
        assert (engine.infer({"a": ones * 6, "b": ones * 2})["fetch_name_0"] == 3).all()
