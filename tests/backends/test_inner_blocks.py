"""Models with if and while on oneDNN: its kernel cache is emptied without harm to shapes seen before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, assert_close, run_threads

import paddleinfer
from paddleinfer import _ext
from paddleinfer.backends.paddle.installed import import_paddle

pytestmark = pytest.mark.paddle3

_SIZES = [1, 3, 2, 1, 4, 5, 3, 1, 6, 2]


def export_inner_blocks(directory: Path, format: str) -> Path:
    """Matrix products before and after a loop; in a ``.json`` model also one in a branch."""
    paddle = import_paddle()
    nn = paddle.nn
    static = paddle.static.nn

    class Model(nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inner, self.last = (nn.Linear(6, 6) for _ in range(3))

        def forward(self, x: Any) -> Any:
            # Paddle frees what a loop begins with, so it begins with a copy.
            start = self.first(x) * 1
            (y,) = static.while_loop(lambda y: paddle.max(y) < 9, lambda y: [y * 2 + 1], [start])
            if format == "json":
                y = static.cond(paddle.mean(y) > 0, lambda: self.inner(y), lambda: y - 3)
            return self.last(y)

    paddle.seed(4)
    paddleinfer.export(Model(), directory, inputs={"x": ("float32", (-1, 6))}, format=format)
    return directory


def request(rows: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(rows).standard_normal((rows, 6)).astype("float32")}


def alone(model: Path, rows: int) -> dict[str, np.ndarray]:
    """What a predictor gives that never ran anything else."""
    with paddleinfer.Engine(model, instances=1, ir_optim=True, check=False) as engine:
        return engine.infer(request(rows))


@pytest.mark.parametrize("driver", ["native", "python"])
@pytest.mark.parametrize("format", ["json", "legacy"])
def test_sizes_that_come_again_after_an_emptying_give_the_same(
    tmp_path: Path, format: str, driver: str
) -> None:
    model = export_inner_blocks(tmp_path / "model", format)
    expected = {rows: alone(model, rows) for rows in sorted(set(_SIZES))}
    options: dict[str, Any] = {"ir_optim": True, "driver": driver, "instances": 2}
    before = _ext.onednn_cache_clears()
    with paddleinfer.Engine(model, max_onednn_shapes=2, **options) as engine:

        def call(number: int) -> None:
            for rows in _SIZES[number:] + _SIZES[:number]:
                assert_close(engine.infer(request(rows), timeout=PATIENCE_S), expected[rows])

        run_threads(3, call)
        assert engine.stats()["errors"] == 0
        onednn, emptied = engine.effective_config()["onednn"], _ext.onednn_cache_clears() - before
    assert onednn["value"] is (format == "json")
    if format == "json":
        assert "made again" in onednn["note"] and emptied > 2
    else:
        assert "if or while" in onednn["note"]


@pytest.mark.parametrize("driver", ["native", "python"])
@pytest.mark.parametrize("change", ["other weights", "no program"])
def test_predictors_that_are_made_anew_are_of_the_files_that_were_checked(
    tmp_path: Path, driver: str, change: str
) -> None:
    model = export_inner_blocks(tmp_path / "model", "json")
    expected = {rows: alone(model, rows) for rows in sorted(set(_SIZES))}
    options: dict[str, Any] = {"ir_optim": True, "driver": driver, "instances": 1, "share_weights": False}
    with paddleinfer.Engine(model, max_onednn_shapes=2, **options) as engine:
        if change == "no program":
            (model / "inference.json").unlink()
        else:
            weights = model / "inference.pdiparams"
            data = weights.read_bytes()
            weights.write_bytes(data[:-100] + bytes(100))
        for rows in _SIZES:
            assert_close(engine.infer(request(rows), timeout=PATIENCE_S), expected[rows])
        assert engine.stats()["errors"] == 0
