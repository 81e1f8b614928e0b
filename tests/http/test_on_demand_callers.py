"""Loads on demand over gRPC, in Paddle Serving's forms and by services; and the options for them."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from engine_helpers import PATIENCE_S, rows
from grpc_helpers import outputs_of as grpc_outputs_of
from grpc_helpers import raw
from grpc_helpers import serving as grpc_serving
from http_commands import plan
from on_demand_helpers import (
    ONE,
    SlowLoads,
    client_of,
    models_of,
    sources,
)
from starlette.testclient import TestClient
from zoo import Zoo

from paddleinfer.errors import ConfigError
from paddleinfer.serve import Request
from paddleinfer.serve import Service as ModelService
from paddleinfer.shim import ModelSource, ServiceOptions, create_app

# The other protocols


def test_models_are_loaded_on_demand_over_grpc(
    equal_models: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with grpc_serving(sources(equal_models, "m1", "m2"), max_loaded_bytes=size) as server:
        for name, value in (("m2", 2), ("m1", 1), ("m2", 2)):
            response = server.infer(**{**raw(x=rows()), "model_name": name})
            (array,) = grpc_outputs_of(response).values()
            assert (array == value).all()
            assert server.call("ModelReady", name="m1").ready
        assert server.call("ModelConfig", name="m1").config.name == "m1"
        assert list(server.call("ModelMetadata", name="m2").versions) == ["1"]
        loads = SlowLoads(monkeypatch)
        code, _ = server.refused("ModelInfer", timeout=0.05, **{**raw(x=rows()), "model_name": "m2"})
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        loads.may_end.set()


def test_models_are_loaded_on_demand_in_paddle_servings_forms(equal_models: Path, size: int) -> None:
    with client_of(sources(equal_models, "m1", "m2"), size) as client:
        for name, value in (("m2", 2.0), ("m1", 1.0)):
            response = client.post(f"/{name}/prediction", json={"key": ["x"], "value": ["[[0, 0, 0]]"]})
            assert response.json()["err_no"] == 0, response.text
            assert response.json()["value"] == [f"[[{value},{value},{value}]]"]


# Services around them


def plain(request: Request, engines: Any) -> Any:
    inputs = {engines.m1.inputs[0].name: rows()}
    return [float(next(iter(engines[name].infer(inputs).values())).flat[0]) for name in request.value]


def submits(request: Request, engines: Any) -> Any:
    futures = [engines[name].submit({"x": rows()}) for name in request.value]
    return [float(next(iter(future.result().values())).flat[0]) for future in futures]


async def awaits(request: Request, engines: Any) -> Any:
    results = await asyncio.gather(*(engines[name].ainfer({"x": rows()}) for name in request.value))
    return [float(next(iter(result.values())).flat[0]) for result in results]


async def blocks(request: Request, engines: Any) -> Any:
    return engines.m1.infer({"x": rows()})


@pytest.mark.parametrize("handle", [plain, submits, awaits])
def test_a_service_has_the_models_that_it_calls_loaded(equal_models: Path, size: int, handle: Any) -> None:
    services = {"s": ModelService(handle=handle)}
    models = sources(equal_models, "m1", "m2", "m3")
    app = create_app(models, ServiceOptions(max_loaded_bytes=size), services=services)
    with TestClient(app, raise_server_exceptions=False) as client, ThreadPoolExecutor(4) as others:
        names = ["m2", "m1", "m2", "m3"]
        asked = [others.submit(client.post, "/services/s", json=names) for _ in range(8)]
        assert [one.result(PATIENCE_S).json() for one in asked] == 8 * [[2.0, 1.0, 2.0, 3.0]]
        room = models_of(client).room
        assert room is not None and room.budget.peak_bytes == size
        assert [model.in_use for model in models_of(client)] == [0, 0, 0]


def test_a_service_is_told_what_its_models_cannot_do(
    equal_models: Path, size: int, zoo: Zoo, caplog: pytest.LogCaptureFixture
) -> None:
    large = ModelSource(zoo.directory("mlp", zoo.formats[0]), ONE)
    models = {**sources(equal_models, "m1"), "large": large}
    services = {
        "blocks": ModelService(handle=blocks),
        "asks": ModelService(handle=lambda request, engines: engines.large.infer({"x": rows()})),
        "traces": ModelService(handle=lambda request, engines: engines.large.stats()),
    }
    app = create_app(models, ServiceOptions(max_loaded_bytes=size), services=services)
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.post("/services/blocks", json=1).status_code == 500
        assert "on the server's own event loop" in caplog.text
        for name in ("asks", "traces"):
            response = client.post(f"/services/{name}", json=1)
            assert response.status_code == 503, response.text
            assert f"max_loaded_bytes allows {size}" in response.json()["error"]


# The options


def test_the_limit_and_the_pinned_are_options_of_command_and_file(equal_models: Path, tmp_path: Path) -> None:
    assert plan(equal_models / "1", "--max-loaded-bytes=5").server.service_options().max_loaded_bytes == 5
    assert plan(equal_models / "1").server.service_options().max_loaded_bytes is None
    file = tmp_path / "server.toml"
    file.write_text(
        f'[server]\nmax_loaded_bytes = 7\n[models.a]\npath = "{equal_models}/1"\npinned = true\n'
        f'[models.b]\npath = "{equal_models}/2"\n'
    )
    planned = plan(f"--config={file}")
    assert planned.server.service_options().max_loaded_bytes == 7
    assert {name: source.pinned for name, source in planned.models.items()} == {"a": True, "b": False}  # type: ignore[union-attr]
    for text, says in (
        ("pinned = 1", "pinned in [models.a] of"),
        ("pinned = true", "needs max_loaded_bytes"),
    ):
        file.write_text(f'[models.a]\npath = "{equal_models}/1"\n{text}')
        with pytest.raises(ConfigError) as refused:
            plan(f"--config={file}")
        assert says in str(refused.value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("0", "max_loaded_bytes must be an integer from 1 up, not 0"),
        ("-1", "max_loaded_bytes must be an integer from 1 up, not -1"),
        ("1e30", "--max-loaded-bytes must be an integer or none, not '1e30'"),
        ("nan", "--max-loaded-bytes must be an integer or none, not 'nan'"),
        ("9" * 400, "max_loaded_bytes must be at most 9223372036854775807, not an integer of 1329 bits"),
        ("9" * 5000, "--max-loaded-bytes must be an integer or none, not '9999"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_in_a_sentence(
    equal_models: Path, value: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        plan(equal_models / "1", f"--max-loaded-bytes={value}")
    assert sentence in str(refused.value) and len(str(refused.value)) < 500
