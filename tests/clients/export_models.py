"""Exports the models that the clients' tests want; run in the environment that has Paddle.

``python export_models.py DIRECTORY`` makes ``simple``, ``aliased`` and ``same_DTYPE`` for every dtype there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import paddle

from paddleinfer.backends.paddle.export import export
from paddleinfer.models.spec import DTYPES

# What Paddle calls the outputs of every exported model, in order.
FETCHED = ("fetch_name_0", "fetch_name_1")
OUTPUTS = ("OUTPUT0", "OUTPUT1")


class SumAndDifference(paddle.nn.Layer):  # type: ignore[misc]
    """Triton's example model: the sum and the difference of its inputs."""

    def forward(self, first: Any, second: Any) -> Any:
        return first + second, first - second


class Same(paddle.nn.Layer):  # type: ignore[misc]
    """Its input with one axis more, in any dtype."""

    def forward(self, x: Any) -> Any:
        return paddle.reshape(x, [-1, 3, 1])


def export_simple(directory: Path) -> None:
    """Triton's ``simple``, with the names that its clients know."""
    inputs = {name: ("int32", (-1, 16)) for name in ("INPUT0", "INPUT1")}
    export(SumAndDifference(), directory, inputs)
    (program,) = directory.glob("*.json")
    text = program.read_text()
    for old, new in zip(FETCHED, OUTPUTS, strict=True):
        assert text.count(f'"{old}"') == 1, f"{program} does not name {old} once"
        text = text.replace(f'"{old}"', f'"{new}"')
    program.write_text(text)


def export_aliased(directory: Path) -> None:
    """The same model as Paddle names it, in a Paddle Serving directory that has Triton's names as aliases."""
    names = ("first", "second")
    export(SumAndDifference(), directory, {name: ("int32", (-1, 16)) for name in names})
    lines = [f'feed_var {{ name: "{name}" alias_name: "INPUT{at}" }}' for at, name in enumerate(names)]
    lines += [
        f'fetch_var {{ name: "{name}" alias_name: "{alias}" }}'
        for name, alias in zip(FETCHED, OUTPUTS, strict=True)
    ]
    (directory / "serving_server_conf.prototxt").write_text("\n".join(lines) + "\n")


def main(directory: Path) -> None:
    export_simple(directory / "simple")
    export_aliased(directory / "aliased")
    for dtype in DTYPES:
        export(Same(), directory / f"same_{dtype}", {"x": (dtype, (-1, 3))})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
