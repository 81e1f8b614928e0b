"""Models of one size that are loaded on demand, and clients of them."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import PATIENCE_S, rows
from http_helpers import json_tensor, outputs_of
from starlette.testclient import TestClient
from zoo import Zoo

from paddleinfer import Engine
from paddleinfer.config import EngineConfig
from paddleinfer.engine import memory
from paddleinfer.shim import ModelSource, ServiceOptions, create_app
from paddleinfer.shim.service import model_loads
from paddleinfer.shim.service.models import Models

ONE = EngineConfig.from_options({"instances": 1, "check_load": "here"})
BODY = {"inputs": [json_tensor("x", rows())]}


def copied(zoo: Zoo, root: Path) -> Path:
    """Models 1 to 4, of one size, which answer with their numbers."""
    for number in range(1, 5):
        shutil.copytree(zoo.directory(f"weight-{number}", zoo.formats[0]), root / str(number))
    return root


def size_of(directory: Path) -> int:
    """What each of them takes."""
    return memory.estimate(directory / "1", ONE)[1]


def sources(directory: Path, *names: str, **options: Any) -> dict[str, ModelSource]:
    """Model "m1" answers 1, and so on."""
    return {name: ModelSource(directory / name[1:], ONE, **options) for name in names}


@contextlib.contextmanager
def client_of(models: dict[str, Any], limit: int, **options: Any) -> Iterator[TestClient]:
    app = create_app(models, ServiceOptions(max_loaded_bytes=limit, **options))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def infer(client: TestClient, name: str, **parameters: Any) -> Any:
    return client.post(f"/v2/models/{name}/infer", json={**BODY, "parameters": parameters})


def answer(client: TestClient, name: str) -> float:
    (array,) = outputs_of(infer(client, name)).values()
    assert (array == array.flat[0]).all()
    return float(array.flat[0])


def states(client: TestClient) -> dict[str, str]:
    return {line["name"]: line["state"] for line in client.post("/v2/repository/index").json()}


def reason(client: TestClient, name: str) -> str:
    lines = {line["name"]: line["reason"] for line in client.post("/v2/repository/index").json()}
    return str(lines[name])


def metric(client: TestClient, name: str) -> float:
    """The value of a metric; 0 where it is not there yet."""
    for line in client.get("/metrics").text.splitlines():
        if line.startswith(f"paddleinfer_{name} "):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def models_of(client: TestClient) -> Models:
    app: Any = client.app
    models: Models = app.service.models
    return models


class SlowLoads:
    """Engines that are opened once they may be."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[str] = []
        self.may_end = threading.Event()
        self.fails: Callable[[str], Exception | None] = lambda name: None
        open_engine = model_loads.Engine
        slow: Any = self

        class Slow(Engine):
            def __init__(self, path: Path, config: EngineConfig) -> None:
                slow.begun.append(Path(path).name)
                assert slow.may_end.wait(PATIENCE_S)
                error = slow.fails(Path(path).name)
                if error is not None:
                    raise error
                super().__init__(path, config)

        assert open_engine is Engine
        monkeypatch.setattr(model_loads, "Engine", Slow)
