"""The useful line of a failure."""

from __future__ import annotations

import pytest

from paddleinfer.paddle_errors import useful_line

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
        (_REPORT, "InvalidArgumentError: Variable value (input) of OP(fluid.layers.embedding) is wrong"),
    ],
)
def test_the_useful_line_is_found(text: str, line: str) -> None:
    assert useful_line(text) == line
