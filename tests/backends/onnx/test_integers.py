"""Integers that another runtime computes through floats, found when a model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from paddleinfer import Engine
from paddleinfer.backends.paddle.export import export
from paddleinfer.errors import ModelLoadError

Opened = Callable[..., Engine]


@pytest.mark.onnx
@pytest.mark.parametrize("format", ["json", "legacy"])
def test_integers_that_a_runtime_takes_for_floats_are_found_at_load(
    opened: Opened, tmp_path: Path, format: Literal["json", "legacy"]
) -> None:
    import paddle

    def twice(n: Any) -> Any:
        return paddle.concat([n, n], axis=1)

    def odd(n: Any) -> Any:
        return n * 2 + 1

    inputs = {"n": ("int64", (-1, 4))}
    with opened(export(twice, tmp_path / "sound", inputs, format=format)) as engine:
        note = engine.effective_config()["backend"]["note"]
        assert note.endswith("integers are equal on integers of both signs beyond 16,777,216, too")
    model = export(odd, tmp_path / "model", inputs, format=format)
    with pytest.raises(
        ModelLoadError,
        match=r"output .* is not equal, on integers of both signs beyond 16,777,216 of the shapes .x4; v",
    ):
        opened(model)
    np.savez(tmp_path / "small.npz", n=np.arange(12).reshape(3, 4))
    opened(model, verify_inputs=tmp_path / "small.npz").close()
