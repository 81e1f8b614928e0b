"""Versions that appear and vanish while the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import PATIENCE_S, rows
from http_helpers import error_of, json_tensor, outputs_of
from starlette.testclient import TestClient
from zoo import Zoo

from paddleinfer.config import EngineConfig
from paddleinfer.engine import memory
from paddleinfer.shim import ModelSource, ServiceOptions, create_app
from paddleinfer.shim.protocol.errors import RequestError
from paddleinfer.shim.service.model_room import NoRoomNow
from paddleinfer.shim.service.models import Models
from paddleinfer.shim.service.served_models import ServedModel
from paddleinfer.shim.service.settled import Settled
from paddleinfer.shim.service.versions import VersionPolicy
from paddleinfer.shim.service.watch import watch_files

ONE = EngineConfig.from_options({"instances": 1, "check_load": "here"})
BODY = {"inputs": [json_tensor("x", rows())]}
LOAD = "/v2/repository/models/m/load"


@pytest.fixture
def directory(zoo: Zoo, tmp_path: Path) -> Path:
    """Of a model with the versions 1 and 2."""
    for version in (1, 2):
        shutil.copytree(version_of(zoo, version), tmp_path / "m" / str(version))
    return tmp_path / "m"


def version_of(zoo: Zoo, version: int) -> Path:
    """A model that answers with its number."""
    return zoo.directory(f"weight-{version}", zoo.formats[0])


def damage(version: Path) -> None:
    for file in version.iterdir():
        file.write_bytes(b"damaged")


class Watched:
    """A directory that is looked at four times a second, by a clock of its own."""

    def __init__(self, directory: Path, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.models = Models.of({"m": ModelSource(directory, ONE, VersionPolicy.of(policy))})
        self._monkeypatch = monkeypatch
        self._looks = 0

    def run(self, *steps: tuple[int, Callable[[], object]]) -> None:
        """Takes each step at its look, and ends with the last."""
        at = {look: step for look, step in steps}
        now_s = 0.0

        async def look(interval_s: float) -> None:
            nonlocal now_s
            now_s += interval_s
            self._looks += 1
            if self._looks in at:
                at[self._looks]()
            if self._looks > max(at):
                raise asyncio.CancelledError

        async def watch() -> None:
            await self.models.load_all()
            with self._monkeypatch.context() as patched, contextlib.suppress(asyncio.CancelledError):
                patched.setattr(asyncio.get_running_loop(), "time", lambda: now_s)
                patched.setattr("paddleinfer.shim.service.watch.asyncio.sleep", look)
                await watch_files(self.models, 0.25)
            await self.models.close(PATIENCE_S)

        asyncio.run(watch())

    def is_served(self, *versions: str) -> Callable[[], None]:
        """A step that asserts which versions are served and loaded."""

        def check() -> None:
            assert [(one.version, one.is_loaded) for one in self.models] == [(one, True) for one in versions]

        return check


# By looking


def test_what_changes_has_settled_once_it_was_the_same_for_a_second_and_two_looks() -> None:
    settled = Settled("a", 0.0)
    looks = (("b", 0.5), ("b", 1.4), ("b", 1.5), ("c", 9.0), ("c", 20.0))
    assert [settled.look(*look) for look in looks] == [False, False, True, False, True]


def test_a_version_that_appears_is_loaded_once_its_files_are_still_and_the_one_before_is_dropped(
    zoo: Zoo, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "paddleinfer.http")
    watched = Watched(directory, "latest", monkeypatch)
    files = sorted(version_of(zoo, 3).iterdir())

    def copy(file: Path) -> Callable[[], object]:
        return lambda: shutil.copy(file, directory / "3" / file.name)

    watched.run(
        (2, (directory / "3").mkdir),
        (10, watched.is_served("2")),
        *((11 + 3 * number, copy(file)) for number, file in enumerate(files)),
        (11 + 3 * len(files), watched.is_served("2")),
        (11 + 3 * len(files) + 4, watched.is_served("3")),
    )
    told = [record.message for record in caplog.records if record.message.startswith("m/")]
    assert told == ["m/3 is served", "m/2 is served no longer"]


def test_a_version_that_cannot_be_loaded_leaves_the_others_and_is_told_once_per_change(
    zoo: Zoo, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(directory, "latest:2", monkeypatch)

    def add_damaged() -> None:
        shutil.copytree(version_of(zoo, 3), directory / "3")
        damage(directory / "3")

    def touch() -> None:
        for file in (directory / "3").iterdir():
            os.utime(file, (1, 1))

    def mend() -> None:
        shutil.copytree(version_of(zoo, 3), directory / "3", dirs_exist_ok=True)

    watched.run(
        (2, add_damaged),
        (30, watched.is_served("1", "2")),
        (31, touch),
        (60, mend),
        (70, watched.is_served("2", "3")),
    )
    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 2
    assert all(line.startswith("m/3 could not be loaded, and the versions before stay: ") for line in told)


def test_a_version_that_vanishes_is_dropped_and_the_next_one_loaded_before(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(directory, "latest", monkeypatch)
    watched.run(
        (2, lambda: shutil.rmtree(directory / "2")),
        (4, watched.is_served("2")),
        (12, watched.is_served("1")),
    )


def test_a_version_that_vanishes_for_a_moment_stays(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(directory, "all", monkeypatch)
    dropped: list[Any] = []
    monkeypatch.setattr(watched.models, "drop", dropped.append)
    watched.run(
        (2, lambda: (directory / "1").rename(directory / "old")),
        (4, lambda: (directory / "old").rename(directory / "1")),
        (20, watched.is_served("1", "2")),
    )
    assert dropped == []


def test_while_no_version_is_there_those_that_are_served_stay_and_it_is_told_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watched = Watched(directory, "all", monkeypatch)
    watched.run((2, lambda: shutil.rmtree(directory)), (30, watched.is_served("1", "2")))
    assert [record.message for record in caplog.records] == [
        f"the versions of m stay as they are: {directory} has no version"
    ]


def test_a_version_that_the_policy_does_not_name_is_not_loaded(
    zoo: Zoo, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(directory, "1,2", monkeypatch)
    watched.run(
        (2, lambda: shutil.copytree(version_of(zoo, 3), directory / "3")),
        (20, watched.is_served("1", "2")),
        (21, lambda: shutil.rmtree(directory / "2")),
        (40, watched.is_served("1", "2")),
    )


def test_a_model_that_clients_have_unloaded_gets_no_new_version(
    zoo: Zoo, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(directory, "latest", monkeypatch)

    def unload() -> None:
        (model,) = watched.models
        model.state, model.reason = "UNAVAILABLE", "unloaded"

    def check() -> None:
        assert [model.version for model in watched.models] == ["2"]

    watched.run((2, unload), (3, lambda: shutil.copytree(version_of(zoo, 3), directory / "3")), (20, check))


def test_a_model_that_was_loaded_on_demand_meanwhile_is_not_loaded_again(
    zoo: Zoo, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files have changed since the watch began, and the load on demand has read them."""
    size = memory.estimate(directory / "1", ONE)[1]
    models = Models.of({name: ModelSource(directory / name[1:], ONE) for name in ("m1", "m2")})
    models.limit_memory(size)
    now_s, looks, generations = 0.0, 0, []

    async def use(name: str) -> None:
        with models.use(models.get(name)) as use:
            await use.loaded(None)

    async def look(interval_s: float) -> None:
        nonlocal now_s, looks
        now_s += interval_s
        looks += 1
        if looks == 2:
            await use("m2")
            for file in (directory / "1").iterdir():
                os.utime(file, (1, 1))
        if looks == 4:
            await use("m1")
        if looks > 4:
            engine = models.get("m1").engine
            assert engine is not None
            generations.append(engine.generation)
        if looks == 20:
            raise asyncio.CancelledError

    async def watch() -> None:
        await models.load_all()
        with monkeypatch.context() as patched, contextlib.suppress(asyncio.CancelledError):
            patched.setattr(asyncio.get_running_loop(), "time", lambda: now_s)
            patched.setattr("paddleinfer.shim.service.watch.asyncio.sleep", look)
            await watch_files(models, 0.25)
        await models.close(PATIENCE_S)

    asyncio.run(watch())
    assert generations == 16 * [1]


# By asking


@contextlib.contextmanager
def client_of(directory: Path, policy: str, **options: Any) -> Any:
    source = ModelSource(directory, ONE, VersionPolicy.of(policy))
    app = create_app({"m": source}, ServiceOptions(repository_control=True, **options))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def answer(client: TestClient, path: str = "m") -> tuple[float, str]:
    response = client.post(f"/v2/models/{path}/infer", json=BODY)
    (array,) = outputs_of(response).values()
    return float(array.flat[0]), response.json()["model_version"]


def test_a_request_to_load_serves_new_versions_and_drops_others(zoo: Zoo, directory: Path) -> None:
    with client_of(directory, "latest:2") as client:
        assert answer(client) == (2, "2")
        shutil.copytree(version_of(zoo, 3), directory / "3")
        assert client.post(LOAD).status_code == 200
        assert answer(client) == (3, "3")
        assert answer(client, "m/versions/2") == (2, "2")
        error_of(client.post("/v2/models/m/versions/1/infer", json=BODY), 404)
        assert [line["version"] for line in client.post("/v2/repository/index").json()] == ["2", "3"]
        shutil.rmtree(directory / "3")
        assert client.post(LOAD).status_code == 200
        assert answer(client) == (2, "2")
        assert answer(client, "m/versions/1") == (1, "1")


def test_a_request_to_load_a_new_version_that_is_damaged_is_refused_and_the_others_stay(
    zoo: Zoo, directory: Path
) -> None:
    with client_of(directory, "latest") as client:
        shutil.copytree(version_of(zoo, 3), directory / "3")
        damage(directory / "3")
        assert "failed to load 'm'" in error_of(client.post(LOAD), 400)
        assert answer(client) == (2, "2")
        shutil.rmtree(directory)
        assert f"{directory} has no version" in error_of(client.post(LOAD), 400)
        assert answer(client) == (2, "2")


def test_a_new_version_takes_the_room_of_the_one_before(zoo: Zoo, directory: Path) -> None:
    size = memory.estimate(directory / "1", ONE)[1]
    with client_of(directory, "latest", max_loaded_bytes=size) as client:
        shutil.copytree(version_of(zoo, 3), directory / "3")
        assert client.post(LOAD).status_code == 200
        assert answer(client) == (3, "3")
        assert client.app.service.models.room.budget.peak_bytes == size


def test_requests_in_flight_of_a_version_that_is_dropped_get_their_results(zoo: Zoo, directory: Path) -> None:
    async def work() -> None:
        models = Models.of({"m": ModelSource(directory, ONE, VersionPolicy.of("latest"))})
        await models.load_all()
        old = models.get("m")
        use = models.use(old)
        shutil.copytree(version_of(zoo, 3), directory / "3")
        changes = models.version_changes["m"]
        await changes.serve(changes.difference().new[0])
        dropping = asyncio.ensure_future(changes.drop_leaving())
        while old.state != "UNLOADING":
            await asyncio.sleep(0)
        assert models.get("m").version == "3"
        assert changes.is_changing
        with pytest.raises(RequestError, match="versions of model 'm' are being loaded"):
            changes.check_idle()
        results = await old.open_engine().ainfer({"x": rows()})
        assert all((array == 2).all() for array in results.values())
        use.end()
        await dropping
        assert old.engine is None
        with pytest.raises(RequestError, match="is not ready: unloaded"):
            models.use(old)
        await models.close(PATIENCE_S)

    asyncio.run(work())


def test_what_finds_no_room_now_is_tried_again_at_the_next_look(
    zoo: Zoo, directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A new version, and changed files of an old one."""
    watched = Watched(directory, "all", monkeypatch)
    load = watched.models.load
    tries = ["m/3"]  # which is not there at the start

    async def hesitant(model: ServedModel, *given: Any, **named: Any) -> None:
        tries.append(model.label)
        if tries.count(model.label) == 2:  # the first is that at the start
            raise NoRoomNow("there is none")
        await load(model, *given, **named)

    def change() -> None:
        shutil.copytree(version_of(zoo, 3), directory / "3")
        for file in (directory / "2").iterdir():
            os.utime(file, (1, 1))

    monkeypatch.setattr(watched.models, "load", hesitant)
    watched.run((2, change), (20, lambda: None))
    assert (tries.count("m/1"), tries.count("m/2"), tries.count("m/3")) == (1, 3, 3)
    assert {record.levelname for record in caplog.records} == {"WARNING"}
