"""The application around the models: health, keys, states, loading, limits, lifespan."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
from engine_helpers import Gate, engine_of, eventually, rows
from http_helpers import INFER, client_of, error_of, json_tensor, outputs_of
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from zoo import Zoo

import paddleinfer
from paddleinfer import ConfigError, EngineConfig, errors
from paddleinfer.backends.paddle import runtime
from paddleinfer.shim import ModelSource, ServiceOptions, create_app
from paddleinfer.shim.protocol.errors import STATUSES

REQUEST = {"inputs": [json_tensor("x", rows())]}


def test_health_is_as_triton_and_kserve_have_it() -> None:
    with engine_of() as engine, client_of(engine) as client:
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"ready": True, "live": True}
        assert client.get("/v2/models/m/ready").json() == {"name": "m", "ready": True}


def test_every_error_of_an_engine_has_a_status() -> None:
    for name in set(errors.__all__) - {"PaddleInferError"}:
        kinds = set(getattr(errors, name).__mro__)
        assert kinds & STATUSES.keys(), f"shim/protocol/errors.py has no status of {name}"


def test_a_server_that_ends_is_alive_and_not_ready_and_still_answers() -> None:
    with engine_of() as engine, client_of(engine) as client:
        client.app.service.draining = True  # type: ignore[attr-defined]
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/v2/models/m/ready").status_code == 503
        outputs_of(client.post(INFER, json=REQUEST))


def test_a_closed_engine_is_not_ready_and_answers_503() -> None:
    with engine_of() as engine, client_of(engine) as client:
        engine.close()
        assert client.get("/v2/health/ready").json()["ready"] is False
        assert "closed" in error_of(client.post(INFER, json=REQUEST), 503)


def test_metadata_names_what_is_there() -> None:
    with engine_of() as engine, client_of(engine) as client:
        for path in ("/v2", "/v2/"):
            server = client.get(path).json()
            assert server["name"] == "paddleinfer"
            assert server["version"] == paddleinfer.__version__
            assert "binary_tensor_data" in server["extensions"]
            assert "model_repository" not in server["extensions"]
            assert "system_shared_memory" not in server["extensions"]
        model = client.get("/v2/models/m").json()
        assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
        assert model["versions"] == ["1"]
        assert client.get("/v2/models/m/versions/1").json() == model


def test_the_configuration_is_tritons_with_what_is_in_force() -> None:
    with engine_of(max_batch_size=16) as engine, client_of(engine) as client:
        config = client.get("/v2/models/m/config").json()
        assert config["max_batch_size"] == 16
        assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [3]}]
        assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 0
    with engine_of(batchable=False) as engine, client_of(engine) as client:
        config = client.get("/v2/models/m/config").json()
        assert config["max_batch_size"] == 0
        assert config["input"][0]["dims"] == [-1, 3]
        assert "dynamic_batching" not in config


def test_statistics_count_what_ran() -> None:
    with engine_of() as engine, client_of(engine) as client:
        for _ in range(3):
            client.post(INFER, json=REQUEST)
        stats = client.get("/v2/models/m/stats").json()["model_stats"][0]
        assert (stats["name"], stats["version"]) == ("m", "1")
        assert stats["inference_count"] == 3
        inference = stats["inference_stats"]
        assert inference["success"]["count"] == 3
        assert inference["success"]["ns"] >= inference["compute_infer"]["ns"] > 0
        assert inference["cache_hit"] == inference["cache_miss"] == {"count": 0, "ns": 0}
        assert client.get("/v2/models/stats").json()["model_stats"][0] == stats


def test_unknown_paths_and_methods_are_refused_in_json() -> None:
    with engine_of() as engine, client_of(engine) as client:
        assert "/v3" in error_of(client.get("/v3"), 404)
        assert "'q'" in error_of(client.get("/v2/models/q"), 404)
        assert "GET" in error_of(client.get(INFER), 405)
        assert "DELETE" in error_of(client.delete("/v2"), 405)


def test_every_route_but_health_wants_the_key() -> None:
    with engine_of() as engine, client_of(engine, api_key="s3cret") as client:
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        for path in ("/v2", "/v2/models/m", "/metrics", "/openapi.json", "/nothing"):
            response = client.get(path)
            assert "Bearer" in error_of(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"
        assert client.post(INFER, json=REQUEST).status_code == 401
        for wrong in ("Bearer other", "Bearer s3cret1", "Basic s3cret", "s3cret", "Bearer é"):
            headers = {"Authorization": wrong.encode()}
            assert client.post(INFER, json=REQUEST, headers=headers).status_code == 401
        headers = {"Authorization": "bearer s3cret"}
        assert client.post(INFER, json=REQUEST, headers=headers).status_code == 200


def test_requests_over_the_limit_under_way_are_told_to_come_back() -> None:
    gate = Gate()
    with engine_of(gate) as engine:
        app = create_app({"m": engine}, ServiceOptions(max_inflight=1))

        async def two() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
                first = asyncio.create_task(client.post(INFER, json=REQUEST))
                while app.service.inference.under_way == 0:
                    await asyncio.sleep(0)
                second = await client.post(INFER, json=REQUEST)
                gate.open()
                assert (await first).status_code == 200
                return second

        response = asyncio.run(two())
        assert "max-inflight" in error_of(response, 429)
        assert response.headers["retry-after"] == "1"


# -- models that the server opens


def test_a_source_is_opened_and_closed_with_the_application(zoo: Zoo) -> None:
    app = create_app(
        {
            "mlp": ModelSource(
                zoo.directory("mlp", zoo.formats[0]), EngineConfig.from_options({"instances": 1})
            )
        }
    )
    with TestClient(app) as client:
        assert client.get("/v2/health/ready").status_code == 200
        engine = next(iter(app.service.models)).engine
        assert engine is not None
    assert engine.closed


def test_an_application_opens_its_sources_each_time_it_begins(zoo: Zoo) -> None:
    path = zoo.directory("mlp", zoo.formats[0])
    app = create_app({"mlp": ModelSource(path, EngineConfig.from_options({"instances": 1}))})
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/v2/models/mlp/ready").status_code == 200
        assert next(iter(app.service.models)).engine is None


def test_an_engine_that_was_given_stays_open() -> None:
    with engine_of() as engine:
        with client_of(engine) as client:
            client.get("/v2")
        assert not engine.closed


def test_a_model_that_cannot_be_opened_ends_the_start(tmp_path: Path) -> None:
    app = create_app({"m": ModelSource(tmp_path)})
    with pytest.raises(paddleinfer.ModelLoadError), TestClient(app):
        pass


def test_the_application_can_be_mounted_in_another(zoo: Zoo) -> None:
    with engine_of() as engine:
        outer = Starlette(routes=[Mount("/ai", create_app({"m": engine}))])
        with TestClient(outer) as client:
            np.testing.assert_array_equal(
                outputs_of(client.post("/ai" + INFER, json=REQUEST))["y"], rows(value=2)
            )
            assert client.get("/ai/v2/health/ready").status_code == 200


def test_names_that_cannot_stand_in_a_url_and_things_that_are_no_engines_are_refused() -> None:
    with engine_of() as engine:
        for name in ("", "a/b", "..", "ü", "x" * 200, "stats"):
            with pytest.raises(ConfigError, match="name"):
                create_app({name: engine})
    with pytest.raises(ConfigError, match="Engine or a ModelSource"):
        create_app({"m": "directory"})  # type: ignore[dict-item]


def test_models_are_unloaded_and_loaded_where_that_is_allowed(zoo: Zoo) -> None:
    sources = {
        "mlp": ModelSource(zoo.directory("mlp", zoo.formats[0]), EngineConfig.from_options({"instances": 1}))
    }
    app = create_app(sources, ServiceOptions(repository_control=True))
    with TestClient(app) as client:

        def state() -> list[str]:
            return [line["state"] for line in client.post("/v2/repository/index", json={}).json()]

        assert "model_repository" in client.get("/v2").json()["extensions"]
        assert state() == ["READY"]
        assert client.post("/v2/repository/models/mlp/unload", json={}).status_code == 200
        assert state() == ["UNAVAILABLE"]
        assert client.post("/v2/repository/index", json={"ready": True}).json() == []
        assert "unloaded" in error_of(client.get("/v2/models/mlp"), 503)
        assert client.get("/v2/health/ready").status_code == 200
        assert client.post("/v2/repository/models/mlp/load", json={}).status_code == 200
        assert state() == ["READY"]
        assert client.get("/v2/models/mlp").status_code == 200
        assert client.post("/v2/repository/models/mlp/load", json={}).status_code == 200  # once more
        assert "'q'" in error_of(client.post("/v2/repository/models/q/load"), 404)


def test_a_load_without_memory_is_told_to_the_client_and_the_model_stays(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EngineConfig.from_options({"instances": 1, "check_load": "here"})
    source = ModelSource(zoo.directory("mlp", zoo.formats[0]), config)

    def fails(*_: object) -> None:
        raise MemoryError("std::bad_alloc")

    with TestClient(create_app({"mlp": source}, ServiceOptions(repository_control=True))) as client:
        with monkeypatch.context() as patched:
            patched.setattr(runtime.Runtime, "_start", fails)
            answer = client.post("/v2/repository/models/mlp/load", json={})
            assert "failed to load 'mlp': there was not enough memory to load" in error_of(answer, 503)
        assert client.get("/v2/models/mlp/ready").status_code == 200
        assert client.post("/v2/repository/models/mlp/load", json={}).status_code == 200


def test_a_model_is_loaded_with_another_batch_size_until_it_is_loaded_again(zoo: Zoo) -> None:
    config = EngineConfig.from_options({"instances": 1})
    app = create_app(
        {"mlp": ModelSource(zoo.directory("mlp", zoo.formats[0]), config)},
        ServiceOptions(repository_control=True),
    )
    with TestClient(app) as client:

        def load(config: object = None) -> httpx.Response:
            return client.post("/v2/repository/models/mlp/load", json={"parameters": {"config": config}})

        def size() -> int:
            return int(client.get("/v2/models/mlp/config").json()["max_batch_size"])

        assert load('{"max_batch_size": 16}').status_code == 200
        assert size() == 16
        for wrong in ("{", 1, '{"backend": "x"}', '{"max_batch_size": 0}', '{"max_batch_size": true}'):
            assert "failed to load 'mlp'" in error_of(load(wrong), 400)
        assert size() == 16
        assert load('{"max_batch_size": "8"}').status_code == 200
        assert size() == 8
        assert load().status_code == 200
        assert size() == 32
        files = {"parameters": {"file:1/model.json": "", "config": "{}"}}
        assert "file:1/model.json" in error_of(client.post("/v2/repository/models/mlp/load", json=files), 400)


def test_the_configuration_of_an_engine_that_was_given_stays() -> None:
    with engine_of() as engine, client_of(engine, repository_control=True) as client:
        body = {"parameters": {"config": '{"max_batch_size": 16}'}}
        assert "given as an engine" in error_of(client.post("/v2/repository/models/m/load", json=body), 400)


def test_the_server_goes_by_the_name_it_was_given() -> None:
    with engine_of() as engine:
        for options, name in (({}, "paddleinfer"), ({"server_name": "triton"}, "triton")):
            with client_of(engine, **options) as client:
                assert client.get("/v2").json()["name"] == name


def test_models_are_not_loaded_where_that_is_not_allowed() -> None:
    with engine_of() as engine, client_of(engine) as client:
        for verb in ("load", "unload"):
            message = error_of(client.post(f"/v2/repository/models/m/{verb}"), 403)
            assert "--repository-control" in message


def test_a_load_that_fails_says_why_and_keeps_what_is_there(zoo: Zoo, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(zoo.directory("mlp", zoo.formats[0]), tmp_path / "copy"))
    sources = {"mlp": ModelSource(copy, EngineConfig.from_options({"instances": 1}))}
    app = create_app(sources, ServiceOptions(repository_control=True))
    with TestClient(app) as client:
        for path in copy.glob("*.pdiparams"):
            path.write_bytes(b"damaged")
        assert error_of(client.post("/v2/repository/models/mlp/load"), 400)
        assert client.get("/v2/models/mlp/ready").status_code == 200


def test_requests_during_a_load_are_answered_503() -> None:
    gate = Gate()
    with engine_of(gate) as engine, client_of(engine) as client:
        model = next(iter(client.app.service.models))  # type: ignore[attr-defined]
        model.state, model.reason = "LOADING", "it is being loaded"
        assert "being loaded" in error_of(client.post(INFER, json=REQUEST), 503)
        assert client.get("/v2/health/ready").status_code == 503
        model.state = "READY"
        assert eventually(lambda: client.get("/v2/health/ready").status_code == 200)
