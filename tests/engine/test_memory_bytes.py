"""What a model's weights take, before it is loaded and afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from zoo import Zoo

from paddleinfer import Engine
from paddleinfer.config import EngineConfig
from paddleinfer.engine import memory
from paddleinfer.errors import ModelLoadError


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({"instances": 1, "onednn": False}, 1),
        ({"instances": 3, "onednn": False}, 1),
        # Clones of a legacy program share their weights, and Paddle 2 has no other.
        pytest.param({"instances": 3, "onednn": False, "share_weights": False}, 3, marks=pytest.mark.paddle3),
        ({"instances": 3, "onednn": True, "ir_optim": True}, 4),
    ],
)
def test_weights_count_once_where_they_are_shared_and_once_more_for_each_copy(
    zoo: Zoo, options: dict[str, Any], times: int
) -> None:
    directory = zoo.directory("mlp", "json" if "json" in zoo.formats else "legacy")
    weights = next(directory.glob("*.pdiparams")).stat().st_size
    spec, estimated = memory.estimate(directory, EngineConfig.from_options(options))
    assert spec.path == directory
    assert estimated == times * weights
    with Engine(directory, **options) as engine:
        assert engine.memory_bytes == estimated


def test_a_function_takes_nothing_that_is_known() -> None:
    with Engine.from_callable(lambda feeds: feeds["x"], {"x": ("float32", (-1, 1))}, ["y"]) as engine:
        assert engine.memory_bytes == 0


def test_what_is_no_model_has_no_estimate(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError):
        memory.estimate(tmp_path, EngineConfig())
