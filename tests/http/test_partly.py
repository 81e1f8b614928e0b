"""Servers of several models of which one cannot be opened, and models that have no inputs."""

from __future__ import annotations

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from engine_helpers import PATIENCE_S, engine_of, eventually, rows
from http_helpers import INFER, error_of, json_tensor, outputs_of
from http_processes import started
from starlette.testclient import TestClient
from zoo import Zoo

import paddleinfer
from paddleinfer import EngineConfig
from paddleinfer.shim import ModelSource, ServiceOptions, cli, create_app

ONE = EngineConfig.from_options({"instances": 1})


@pytest.fixture
def damaged(zoo: Zoo, tmp_path: Path) -> Path:
    """A model whose parameters are cut off."""
    copy = Path(shutil.copytree(zoo.directory("mlp", zoo.formats[0]), tmp_path / "damaged"))
    for path in copy.glob("*.pdiparams"):
        path.write_bytes(b"damaged")
    return copy


@pytest.fixture
def partly(damaged: Path, caplog: pytest.LogCaptureFixture) -> Iterator[TestClient]:
    """Serves `bad`, which cannot be opened, and `m`."""
    with engine_of() as engine:
        app = create_app(
            {"bad": ModelSource(damaged, ONE), "m": engine}, ServiceOptions(repository_control=True)
        )
        with caplog.at_level(logging.ERROR), TestClient(app) as client:
            yield client


def test_a_model_that_cannot_be_opened_keeps_no_other_from_being_served(
    partly: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    (record,) = [record for record in caplog.get_records("setup") if record.name == "paddleinfer.http"]
    assert record.levelno == logging.ERROR and record.exc_info is None
    why = record.getMessage().removeprefix("bad is not served: ")
    assert "pdiparams" in why
    request = {"inputs": [json_tensor("x", rows())]}
    outputs_of(partly.post(INFER, json=request))
    assert partly.get("/v2/health/ready").status_code == 200
    for path in ("", "/ready", "/config", "/stats", "/diagnosis"):
        assert why in error_of_ready(partly.get(f"/v2/models/bad{path}"))
    assert why in error_of(partly.post("/v2/models/bad/infer", json=request), 503)
    index = partly.post("/v2/repository/index", json={}).json()
    assert [(line["name"], line["state"], line["reason"]) for line in index] == [
        ("bad", "UNAVAILABLE", why),
        ("m", "READY", ""),
    ]
    for path in ("/metrics", "/v2/models/stats", "/v2/live", "/openapi.json", "/v2/trace?seconds=0.01"):
        assert partly.get(path).status_code == 200, path


def error_of_ready(response: httpx.Response) -> str:
    assert response.status_code == 503
    return str(response.json()["error"])


def test_it_is_loaded_when_a_client_asks_once_it_is_mended(
    partly: TestClient, damaged: Path, zoo: Zoo
) -> None:
    assert "pdiparams" in error_of(partly.post("/v2/repository/models/bad/load"), 400)
    assert partly.get("/v2/health/ready").status_code == 200
    shutil.copytree(zoo.directory("mlp", zoo.formats[0]), damaged, dirs_exist_ok=True)
    assert partly.post("/v2/repository/models/bad/load").status_code == 200
    assert partly.get("/v2/models/bad/ready").status_code == 200


def test_where_no_model_can_be_opened_the_start_fails(damaged: Path) -> None:
    app = create_app({"a": ModelSource(damaged, ONE), "b": ModelSource(damaged, ONE)})
    with pytest.raises(paddleinfer.ModelLoadError, match="pdiparams"), TestClient(app):
        pass


def test_the_command_serves_the_others_and_loads_a_mended_model_by_itself(zoo: Zoo, damaged: Path) -> None:
    good = zoo.directory("mlp", zoo.formats[0])
    models = ["--model", f"bad={damaged}", "--model", f"m={good}"]
    flags = ["--host", "127.0.0.1", "--port", "0", "--reload-interval", "0.1"]
    with started("-m", "paddleinfer.shim", *models, *flags) as server:
        assert server.status("/v2/health/ready") == server.status("/v2/models/m/ready") == 200
        assert server.status("/v2/models/bad/ready") == 503
        shutil.copytree(good, damaged, dirs_exist_ok=True)
        for path in damaged.iterdir():
            os.utime(path)
        assert eventually(lambda: server.status("/v2/models/bad/ready") == 200, PATIENCE_S)
        server.process.send_signal(signal.SIGTERM)
        code, errors = server.end()
    assert code == 0
    assert "ERROR paddleinfer.http: bad is not served: " in errors


def test_what_is_named_must_be_a_model_and_damage_is_none_of_the_others_business(
    zoo: Zoo, damaged: Path, tmp_path: Path
) -> None:
    good = zoo.directory("mlp", zoo.formats[0])

    def names(*models: str) -> list[str]:
        arguments = [part for model in models for part in ("--model", model)]
        return list(cli.plan_of(cli._parser().parse_args(arguments), {}).models)

    assert names(f"a={damaged}", f"b={good}") == ["a", "b"]
    for nothing in (tmp_path / "none", Path(__file__).parent):
        with pytest.raises(paddleinfer.ModelLoadError, match=str(nothing)):
            names(f"a={nothing}", f"b={good}")
    with pytest.raises(paddleinfer.ModelLoadError, match="pdiparams"):
        names(f"a={damaged}", f"b={damaged}")
