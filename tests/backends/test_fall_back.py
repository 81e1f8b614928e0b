"""Unknown faults of oneDNN: the instance's predictor is made again without it, and the request runs again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import assert_close, run_threads

import paddleinfer
from paddleinfer.backends.paddle import faults
from paddleinfer.backends.paddle.installed import import_paddle

pytestmark = pytest.mark.paddle3


@pytest.fixture
def unknown_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that Paddle 3.3 cannot run on oneDNN, with a table that does not know that."""
    monkeypatch.setattr(faults, "KNOWN_FAULTS", ())
    paddle = import_paddle()
    nn = paddle.nn

    class Upsample(nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            y = nn.functional.relu(x)  # in place, were it not the caller's
            y = nn.functional.interpolate(y, scale_factor=2.0, mode="nearest")
            return self.head(y)

    paddle.seed(3)
    paddleinfer.export(Upsample(), tmp_path / "model", inputs={"x": ("float32", (-1, 2, -1, 2))})
    return tmp_path / "model"


def image(rows: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((rows, 2, 3, 2)).astype("float32")}


@pytest.mark.parametrize("driver", ["native", "python"])
def test_a_request_that_fails_on_onednn_runs_again_without(
    unknown_fault: Path, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    requests = [image(rows, seed) for seed, rows in enumerate((1, 3, 2, 1, 5, 2))]
    with paddleinfer.Engine(unknown_fault, onednn=False, instances=1) as engine:
        expected = [engine.infer(request) for request in requests]
    with (
        caplog.at_level(logging.WARNING, "paddleinfer"),
        paddleinfer.Engine(unknown_fault, driver=driver, instances=2) as engine,
    ):
        assert engine.effective_config()["onednn"]["value"] is True
        for request, right in zip(requests, expected, strict=True):
            assert_close(engine.infer(request), right)
        run_threads(8, lambda _: engine.infer(image(2)))
        onednn = engine.effective_config()["onednn"]
        assert engine.stats()["errors"] == 0
    assert onednn["value"] is False and onednn["source"] == "auto"
    assert "Unimplemented" in onednn["note"] and "DoubleAttribute" in onednn["note"]
    assert "stays off until the model is loaded again" in onednn["note"]
    assert [record.message for record in caplog.records if "oneDNN is off" in record.message] == [
        f"{unknown_fault}: oneDNN is off from now on, for {onednn['note']}"
    ]


@pytest.mark.parametrize("driver", ["native", "python"])
def test_a_request_without_elements_switches_nothing_off(unknown_fault: Path, driver: str) -> None:
    nothing = {"x": np.zeros((1, 2, 0, 2), "float32")}
    with paddleinfer.Engine(unknown_fault, driver=driver, instances=1, check=False) as engine:
        with pytest.raises(paddleinfer.ModelError):
            engine.infer(nothing)
        assert engine.effective_config()["onednn"]["value"] is True
        engine.infer(image())
        assert engine.effective_config()["onednn"]["value"] is False


@pytest.mark.parametrize("driver", ["native", "python"])
def test_an_explicit_onednn_keeps_failing_and_is_told_what_may_help(unknown_fault: Path, driver: str) -> None:
    with paddleinfer.Engine(unknown_fault, driver=driver, onednn=True) as engine:
        for _ in range(2):
            with pytest.raises(paddleinfer.ModelError, match=r"Unimplemented.*onednn=False may run it"):
                engine.infer(image())
        assert engine.effective_config()["onednn"] == {"value": True, "source": "option"}


@pytest.mark.parametrize("driver", ["native", "python"])
def test_a_request_that_fails_either_way_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    paddle = import_paddle()

    class Embedding(paddle.nn.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.table = paddle.nn.Embedding(5, 2)

        def forward(self, ids: Any) -> Any:
            return self.table(ids)

    paddleinfer.export(Embedding(), tmp_path / "model", inputs={"ids": ("int64", (-1, 3))})
    with paddleinfer.Engine(tmp_path / "model", driver=driver, instances=1) as engine:
        for _ in range(4):
            with pytest.raises(paddleinfer.ModelError, match="InvalidArgument"):
                engine.infer({"ids": np.full((1, 3), 9)})
        engine.infer({"ids": np.full((1, 3), 4)})
        assert engine.effective_config()["onednn"]["value"] is True
