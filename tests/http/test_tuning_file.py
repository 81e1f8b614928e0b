"""A server follows the tuning file beside a model, and loads the model again when that has changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from zoo import Zoo

from paddleinfer.config import EngineConfig
from paddleinfer.shim import ModelSource, ServiceOptions, create_app
from paddleinfer.shim.service.file_stamps import stamps_around

pytest.importorskip("paddle")


def write(model: Path, max_batch_size: int) -> None:
    (model / "paddleinfer.toml").write_text(f"[options]\nmax_batch_size = {max_batch_size}\n[measured]\n")


def test_a_server_follows_the_file_at_each_load_and_a_clients_own_size_wins(zoo: Zoo, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(zoo.directory("mlp", zoo.formats[0]), model)
    write(model, 8)
    config = EngineConfig.from_options({"instances": 1, "check_load": "here"})
    app = create_app({"m": ModelSource(model, config)}, ServiceOptions(repository_control=True))
    with TestClient(app) as client:

        def size() -> int:
            return int(client.get("/v2/models/m/config").json()["max_batch_size"])

        def load(**parameters: str) -> None:
            assert (
                client.post("/v2/repository/models/m/load", json={"parameters": parameters}).status_code
                == 200
            )

        assert size() == 8
        write(model, 4)
        load()
        assert size() == 4
        load(config='{"max_batch_size": 32}')  # the default, and given all the same
        assert size() == 32


def test_a_change_of_the_file_is_a_change_of_the_model(zoo: Zoo, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(zoo.directory("mlp", zoo.formats[0]), model)
    before = stamps_around(model)
    write(model, 8)
    assert stamps_around(model) != before
