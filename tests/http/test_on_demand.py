"""A budget for the loaded models: loads on demand, and unloads of the least recently used."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from engine_helpers import PATIENCE_S, eventually
from http_helpers import error_of
from on_demand_helpers import (
    ONE,
    SlowLoads,
    answer,
    client_of,
    infer,
    metric,
    models_of,
    reason,
    sources,
    states,
)
from starlette.testclient import TestClient
from zoo import Zoo

from paddleinfer.engine import memory
from paddleinfer.errors import ModelLoadError, OutOfMemory
from paddleinfer.shim import ModelSource, create_app
from paddleinfer.shim.service import model_loads
from paddleinfer.shim.service.models import Models

# What is loaded


def test_as_many_as_fit_are_loaded_at_the_start_and_the_others_by_requests(
    equal_models: Path, size: int
) -> None:
    with client_of(sources(equal_models, "m1", "m2", "m3"), 2 * size) as client:
        assert states(client) == {"m1": "READY", "m2": "READY", "m3": "UNAVAILABLE"}
        assert (
            reason(client, "m3") == "there was no room for it at the start; the next request for it loads it"
        )
        assert answer(client, "m3") == 3
        assert states(client) == {"m1": "UNAVAILABLE", "m2": "READY", "m3": "READY"}
        assert reason(client, "m1") == "unloaded to make room for 'm3'; the next request for it loads it"
        assert answer(client, "m2") == 2
        assert answer(client, "m1") == 1
        assert states(client) == {"m1": "READY", "m2": "READY", "m3": "UNAVAILABLE"}
        assert metric(client, "max_loaded_bytes") == 2 * size
        assert metric(client, 'loaded_bytes{model="m1"}') == size
        assert metric(client, 'loads_on_demand_total{model="m1"}') == 1
        assert metric(client, 'unloads_for_room_total{model="m3"}') == 1
        assert metric(client, 'loads_on_demand_total{model="m2"}') == 0


def test_without_a_budget_nothing_of_it_is_told(equal_models: Path) -> None:
    with TestClient(create_app(sources(equal_models, "m1"))) as client:
        assert "loaded_bytes" not in client.get("/metrics").text


def test_models_that_are_loaded_on_demand_are_ready(equal_models: Path, size: int) -> None:
    with client_of(sources(equal_models, "m1", "m2"), size) as client:
        assert states(client)["m2"] == "UNAVAILABLE"
        assert client.get("/v2/models/m2/ready").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        assert [
            line["name"] for line in client.post("/v2/repository/index", json={"ready": True}).json()
        ] == ["m1"]


def test_metadata_needs_no_load_and_the_configuration_does(equal_models: Path, size: int) -> None:
    with client_of(sources(equal_models, "m1", "m2"), size) as client:
        described = client.get("/v2/models/m2").json()
        assert described["versions"] == ["1"]
        assert described["inputs"] == client.get("/v2/models/m1").json()["inputs"]
        assert "is not ready: there was no room" in error_of(client.get("/v2/models/m2/stats"), 503)
        assert states(client) == {"m1": "READY", "m2": "UNAVAILABLE"}
        assert client.get("/v2/models/m2/config").json()["name"] == "m2"
        assert states(client) == {"m1": "UNAVAILABLE", "m2": "READY"}
        assert client.get("/v2/models/m2/stats").status_code == 200


def test_a_model_that_is_pinned_stays(equal_models: Path, size: int) -> None:
    models = {**sources(equal_models, "m1", "m2"), **sources(equal_models, "m3", pinned=True)}
    with client_of(models, 2 * size) as client:
        assert states(client) == {"m1": "READY", "m2": "UNAVAILABLE", "m3": "READY"}
        assert [answer(client, name) for name in ("m1", "m2", "m1", "m2")] == [1, 2, 1, 2]
        assert states(client)["m3"] == "READY"


def test_versions_and_variants_are_loaded_on_demand_by_themselves(equal_models: Path, size: int) -> None:
    from paddleinfer.shim.service.versions import VersionPolicy

    versions = ModelSource(equal_models, ONE, VersionPolicy.of("1,2"))
    variants = [ModelSource(equal_models / name, ONE, weight=1) for name in ("3", "4")]
    with client_of({"m": versions, "v": variants}, size) as client:
        assert [answer(client, "m/versions/1"), answer(client, "m"), answer(client, "m/versions/1")] == [
            1,
            2,
            1,
        ]
        assert [answer(client, "v") for _ in range(4)] == [3, 4, 3, 4]


# What cannot be


def test_a_model_that_can_never_fit_is_refused_with_its_size_and_the_limit(
    equal_models: Path, size: int, zoo: Zoo
) -> None:
    large = ModelSource(zoo.directory("mlp", zoo.formats[0]), ONE)
    with client_of({**sources(equal_models, "m1"), "large": large}, size) as client:
        response = infer(client, "large")
        sentence = error_of(response, 503)
        large_bytes = memory.estimate(large.path, ONE)[1]
        assert sentence == (
            f"model 'large' is not ready: model 'large' takes an estimated {large_bytes} bytes, "
            f"and max_loaded_bytes allows {size}"
        )
        assert "retry-after" not in response.headers
        assert client.get("/v2/health/ready").status_code == 200
        assert answer(client, "m1") == 1


def test_a_server_none_of_whose_models_fits_does_not_start(equal_models: Path, size: int) -> None:
    says = f"{size} bytes, and max_loaded_bytes allows {size - 1}$"
    with pytest.raises(ModelLoadError, match=says), client_of(sources(equal_models, "m1"), size - 1):
        raise AssertionError("it has started")


def test_pinned_models_leave_what_others_may_take(equal_models: Path, size: int) -> None:
    models = {**sources(equal_models, "m1"), **sources(equal_models, "m2", pinned=True)}
    with client_of(models, size + 1) as client:
        sentence = error_of(infer(client, "m1"), 503)
        assert sentence.endswith(f"max_loaded_bytes allows {size + 1}, of which pinned models leave 1")


def test_a_model_that_cannot_be_loaded_on_demand_says_why_and_is_not_tried_again(
    equal_models: Path, size: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(equal_models, tmp_path / "m")
    with client_of(sources(tmp_path / "m", "m1", "m2"), size) as client:
        for file in (tmp_path / "m/2").iterdir():
            file.write_bytes(b"damaged")
        sentence = error_of(infer(client, "m2"), 503)
        assert sentence.startswith("model 'm2' is not ready: ")
        assert str(tmp_path / "m/2") in sentence
        assert error_of(infer(client, "m2"), 503) == sentence
        assert [record.levelname for record in caplog.records if "on demand" in record.message] == ["ERROR"]
        assert states(client) == {"m1": "READY", "m2": "UNAVAILABLE"}  # the files showed it
        assert client.get("/v2/models/m2/ready").status_code == 503
        assert client.get("/v2/health/ready").status_code == 200


def test_a_lack_of_memory_is_told_with_retry_after_and_the_next_request_tries_again(
    equal_models: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(sources(equal_models, "m1", "m2"), size) as client:
        loads = SlowLoads(monkeypatch)
        loads.may_end.set()
        loads.fails = lambda name: OutOfMemory("there is none")
        response = infer(client, "m2")
        assert error_of(response, 503) == "model 'm2': there is none"
        assert response.headers["retry-after"] == "1"
        loads.fails = lambda name: None
        assert answer(client, "m2") == 2


# Requests that wait


def test_requests_that_come_during_a_load_wait_for_the_same_one(
    equal_models: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(sources(equal_models, "m1", "m2"), size) as client, ThreadPoolExecutor(8) as others:
        loads = SlowLoads(monkeypatch)
        asked = [others.submit(answer, client, "m2") for _ in range(8)]
        model = models_of(client).get("m2")
        assert eventually(lambda: model.awaited == 8)
        assert states(client)["m2"] == "LOADING"
        loads.may_end.set()
        assert [one.result(PATIENCE_S) for one in asked] == 8 * [2.0]
        assert loads.begun == ["2"]


def test_a_request_whose_deadline_passes_during_a_load_gets_504_and_the_load_goes_on(
    equal_models: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(sources(equal_models, "m1", "m2"), size) as client, ThreadPoolExecutor(1) as other:
        loads = SlowLoads(monkeypatch)
        patient = other.submit(answer, client, "m2")
        assert eventually(lambda: loads.begun == ["2"])
        sentence = error_of(infer(client, "m2", timeout=1000), 504)
        assert sentence == "the deadline passed while model 'm2' was being loaded"
        loads.may_end.set()
        assert patient.result(PATIENCE_S) == 2
        assert loads.begun == ["2"]


def test_a_load_that_nobody_waits_for_any_more_is_not_begun(
    equal_models: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(sources(equal_models, "m1", "m2", "m3"), size) as client, ThreadPoolExecutor(1) as other:
        loads = SlowLoads(monkeypatch)
        second = other.submit(answer, client, "m2")
        assert eventually(lambda: loads.begun == ["2"])
        error_of(infer(client, "m3", timeout=1000), 504)
        loads.may_end.set()
        assert second.result(PATIENCE_S) == 2
        assert answer(client, "m2") == 2
        assert loads.begun == ["2"]
        assert states(client) == {"m1": "UNAVAILABLE", "m2": "READY", "m3": "UNAVAILABLE"}
        assert answer(client, "m3") == 3


def test_a_model_is_unloaded_only_once_its_requests_have_ended(equal_models: Path, size: int) -> None:
    with client_of(sources(equal_models, "m1", "m2"), size) as client, ThreadPoolExecutor(2) as others:
        first = models_of(client).get("m1")
        assert first.hold()  # as a request does that is under way
        second = others.submit(answer, client, "m2")
        assert eventually(lambda: first.state == "UNLOADING")
        assert reason(client, "m1") == "it makes room for 'm2'"
        third = others.submit(answer, client, "m1")  # waits, and is not lost
        assert eventually(lambda: first.awaited == 1)
        assert first.engine is not None and not first.engine.closed
        client.portal.call(first.let_go)  # type: ignore[union-attr]
        assert (second.result(PATIENCE_S), third.result(PATIENCE_S)) == (2, 1)


def test_requests_that_do_not_end_keep_their_model_and_the_other_is_told_to_come_later(
    equal_models: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_loads, "_DRAIN_TIMEOUT_S", 0.0)
    with client_of(sources(equal_models, "m1", "m2"), size) as client:
        first = models_of(client).get("m1")
        assert first.hold()
        response = infer(client, "m2")
        assert error_of(response, 503) == (
            f"model 'm2' takes an estimated {size} bytes, and there is no room now within max_loaded_bytes: "
            "m1 cannot be unloaded at the moment"
        )
        assert response.headers["retry-after"] == "1"
        assert answer(client, "m1") == 1
        client.portal.call(first.let_go)  # type: ignore[union-attr]
        assert answer(client, "m2") == 2


# Loads and unloads that clients ask for


def test_what_a_client_unloads_is_not_loaded_on_demand_until_it_loads_it(
    equal_models: Path, size: int
) -> None:
    with client_of(sources(equal_models, "m1", "m2"), size, repository_control=True) as client:
        assert client.post("/v2/repository/models/m2/unload").status_code == 200
        assert error_of(infer(client, "m2"), 503) == "model 'm2' is not ready: unloaded"
        assert client.get("/v2/models/m2/ready").status_code == 503
        assert client.get("/v2/health/ready").status_code == 200
        assert client.post("/v2/repository/models/m2/load").status_code == 200
        assert states(client) == {"m1": "UNAVAILABLE", "m2": "READY"}
        assert [answer(client, name) for name in ("m2", "m1", "m2")] == [2, 1, 2]


def test_a_reload_has_room_beside_what_is_loaded_or_is_refused(equal_models: Path, size: int) -> None:
    models = sources(equal_models, "m1", "m2")
    with client_of(models, 2 * size, repository_control=True) as client:
        assert client.post("/v2/repository/models/m1/load").status_code == 200
        assert states(client) == {"m1": "READY", "m2": "UNAVAILABLE"}
        assert models_of(client).room is not None
        assert models_of(client).room.budget.peak_bytes == 2 * size  # type: ignore[union-attr]
        assert models_of(client).room.budget.loaded_bytes == size  # type: ignore[union-attr]
    with client_of(models, 2 * size - 1, repository_control=True) as client:
        sentence = error_of(client.post("/v2/repository/models/m1/load"), 400)
        assert f"takes an estimated {2 * size} bytes with what is loaded of it until then, and" in sentence
        assert sentence.endswith(f"max_loaded_bytes allows {2 * size - 1}; unload it first")
        assert answer(client, "m1") == 1


def test_a_reload_that_fails_gives_its_room_back(equal_models: Path, size: int, tmp_path: Path) -> None:
    shutil.copytree(equal_models / "1", tmp_path / "1")
    with client_of(sources(tmp_path, "m1"), 2 * size, repository_control=True) as client:
        for file in (tmp_path / "1").iterdir():
            file.write_bytes(b"damaged")
        error_of(client.post("/v2/repository/models/m1/load"), 400)
        assert answer(client, "m1") == 1
        assert models_of(client).room.budget.loaded_bytes == size  # type: ignore[union-attr]


# The end


def test_requests_that_wait_for_a_load_get_503_when_the_server_ends(
    equal_models: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with client_of(sources(equal_models, "m1", "m2"), size) as client, ThreadPoolExecutor(1) as other:
        loads = SlowLoads(monkeypatch)
        asked = other.submit(infer, client, "m2")
        assert eventually(lambda: loads.begun == ["2"])
        client.portal.call(models_of(client).end_loads)  # type: ignore[union-attr]
        assert "the server is ending" in error_of(asked.result(PATIENCE_S), 503)
        loads.may_end.set()


def test_loads_that_wait_for_each_other_do_not_stand_still(equal_models: Path, size: int) -> None:
    """Reloads of all models at once, with requests for all, where there is room for two."""
    names = ["m1", "m2", "m3", "m4"]

    async def work() -> None:
        models = Models.of(sources(equal_models, *names))
        models.limit_memory(2 * size)
        await models.load_all()

        async def reload(name: str) -> None:
            with contextlib.suppress(ModelLoadError, model_loads.RequestError):
                await models.load(models.get(name), while_serving=True)

        async def use(name: str) -> None:
            with models.use(models.get(name)) as use:
                await use.loaded(None)
                assert models.get(name).open_engine() is not None

        await asyncio.wait_for(
            asyncio.gather(*(act(name) for _ in range(5) for act in (reload, use) for name in names)),
            PATIENCE_S,
        )
        assert models.room is not None
        assert models.room.budget.peak_bytes <= 2 * size
        await models.close(PATIENCE_S)

    asyncio.run(work())
