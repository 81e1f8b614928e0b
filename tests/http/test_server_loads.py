"""Loads at a client's request: what it may ask for, and how they end with the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from engine_helpers import PATIENCE_S, eventually
from http_processes import ELSEWHERE, START_S
from zoo import Zoo

from paddleinfer.config import EngineConfig
from paddleinfer.errors import ConfigError
from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.protocol.errors import RequestError
from paddleinfer.shim.service.daemon_thread import DaemonCalls
from paddleinfer.shim.service.models import Models
from paddleinfer.shim.service.repository import load_config
from paddleinfer.shim.service.served_models import ModelSource, ServedModel
from paddleinfer.shim.service.watch import watch_files

MILLION = 1 << 20


def asked(size: Any) -> dict[str, Any]:
    return {"parameters": {"config": f'{{"max_batch_size": {size}}}'}}


def test_a_client_may_not_ask_for_a_batch_of_a_million_rows() -> None:
    model = ServedModel("m", ModelSource(Path("m")))
    given = load_config(asked(1024), model, 1024)
    assert given is not None
    assert given.batching.max_batch_size == 1024
    with pytest.raises(RequestError, match=r"max_batch_size may be 1024 at most .* and 1048576 is more"):
        load_config(asked(MILLION), model, 1024)
    # What the server's owner has given the model is not too much for a client.
    large = ServedModel("m", ModelSource(Path("m"), EngineConfig.from_options({"max_batch_size": MILLION})))
    given = load_config(asked(MILLION), large, 1024)
    assert given is not None
    assert given.batching.max_batch_size == MILLION
    with pytest.raises(ConfigError, match="max_load_batch_size must be an integer from 1 up"):
        ServerOptions(max_load_batch_size=0)


# Loads that end with their server


def test_a_call_that_does_not_come_back_holds_nobody() -> None:
    go, forgone = threading.Event(), []

    async def cut() -> DaemonCalls:
        calls = DaemonCalls()
        assert await calls.start(lambda: 1) == 1
        with pytest.raises(ZeroDivisionError):
            await calls.start(lambda: 1 / 0)
        waiting = calls.start(lambda: go.wait(PATIENCE_S), forgone.append)
        waiting.set_exception(RuntimeError("cut"))
        with pytest.raises(RuntimeError, match="cut"):
            await waiting
        return calls

    calls = asyncio.run(cut())
    assert calls.under_way
    go.set()
    assert eventually(lambda: forgone == [True])
    assert eventually(lambda: not calls.under_way)


@contextlib.contextmanager
def server(directory: str, uds: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "paddleinfer.shim", directory, "--uds", str(uds), *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ELSEWHERE
    )
    try:
        assert eventually(uds.exists, START_S)
        yield process
    finally:
        process.kill()
        process.communicate()


WARMS_A_MILLION = ("--warmup", "--max-batch-size", str(MILLION), "--check-load", "here")


def test_a_signal_ends_a_server_that_warms_up(zoo: Zoo, tmp_path: Path) -> None:
    with server(zoo.directory("mlp", zoo.formats[0]), tmp_path / "s", *WARMS_A_MILLION) as process:
        time.sleep(3)  # at whatever it is then
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=START_S)
        assert process.returncode == 0, errors
        assert "received SIGTERM; draining" in errors
        assert "Traceback" not in errors


def test_a_signal_ends_a_load_that_a_client_asked_for(zoo: Zoo, tmp_path: Path) -> None:
    options = (
        "--repository-control",
        "--max-load-batch-size",
        str(MILLION),
        "--warmup",
        "--max-batch-size",
        "1",
    )
    with server(zoo.directory("mlp", zoo.formats[0]), tmp_path / "s", *options) as process:
        with (
            httpx.Client(
                transport=httpx.HTTPTransport(uds=str(tmp_path / "s")),
                base_url="http://server",
                timeout=START_S,
            ) as client,
            ThreadPoolExecutor(1) as other,
        ):
            assert eventually(lambda: client.get("/v2/health/ready").status_code == 200, START_S)

            def listed() -> Any:
                (model,) = client.post("/v2/repository/index").json()
                return model

            path = f"/v2/repository/models/{listed()['name']}"
            assert client.post(f"{path}/unload").status_code == 200
            loading = other.submit(client.post, f"{path}/load", json=asked(MILLION))
            assert eventually(lambda: listed()["state"] == "LOADING", START_S)
            process.send_signal(signal.SIGTERM)
            answer = loading.result()
        assert answer.status_code == 503, answer.text
        assert "the server is ending" in answer.json()["error"]
        _, errors = process.communicate(timeout=START_S)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors


# Files that change


def test_files_are_loaded_again_once_they_have_been_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("0")
    model = ServedModel("m", ModelSource(tmp_path), failed=True)
    models, now_s, looks, loads = Models([model]), [0.0], [0], []

    async def look(interval_s: float) -> None:
        now_s[0] += interval_s
        looks[0] += 1
        if looks[0] <= 10:
            path.write_text("0" * looks[0])
        if looks[0] == 30:
            raise asyncio.CancelledError

    async def load(*_: Any, **how: Any) -> None:
        loads.append((looks[0], how))

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "time", lambda: now_s[0])
        monkeypatch.setattr("paddleinfer.shim.service.watch.asyncio.sleep", look)
        monkeypatch.setattr(models, "load", load)
        with contextlib.suppress(asyncio.CancelledError):
            await watch_files(models, 0.25)

    asyncio.run(watch())
    # Written to last before the 10th look, and still for a second at the 14th.
    assert loads == [(14, {"while_serving": True})]


def test_a_file_that_changed_before_the_first_look_is_loaded_again(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While other models were loaded, say."""
    path = Path(shutil.copytree(zoo.directory("mlp", zoo.formats[0]), tmp_path / "m"))
    models, now_s, looks, loads = (
        Models([ServedModel("m", ModelSource(path, EngineConfig.from_options({"instances": 1})))]),
        [0.0],
        [0],
        [],
    )

    async def look(interval_s: float) -> None:
        now_s[0] += interval_s
        looks[0] += 1
        if looks[0] == 10:
            raise asyncio.CancelledError

    async def load(*_: Any, **how: Any) -> None:
        loads.append(looks[0])

    async def watch(change: bool) -> None:
        loop = asyncio.get_running_loop()
        await models.load_all()
        if change:
            os.utime(next(path.glob("*.pdiparams")), (1, 1))
        with monkeypatch.context() as patched, contextlib.suppress(asyncio.CancelledError):
            patched.setattr(loop, "time", lambda: now_s[0])
            patched.setattr("paddleinfer.shim.service.watch.asyncio.sleep", look)
            patched.setattr(models, "load", load)
            await watch_files(models, 0.25)
        await models.close(PATIENCE_S)

    asyncio.run(watch(False))
    assert loads == []
    looks[0] = 0
    asyncio.run(watch(True))
    assert loads == [4]


def test_touching_fluid_time_file_loads_the_model_again(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paddle Serving's users copy a model over the old one and touch it last."""
    path = Path(shutil.copytree(zoo.directory("mlp", zoo.formats[0]), tmp_path / "m"))
    (path / "fluid_time_file").touch()
    models = Models([ServedModel("m", ModelSource(path, EngineConfig.from_options({"instances": 1})))])
    now_s, looks, generations = [0.0], [0], []

    async def look(interval_s: float) -> None:
        now_s[0] += interval_s
        looks[0] += 1
        (served,) = models
        generations.append(served.engine.generation)
        if looks[0] == 3:
            os.utime(path / "fluid_time_file", (1, 1))
        if looks[0] == 20:
            raise asyncio.CancelledError

    async def watch() -> None:
        loop = asyncio.get_running_loop()
        await models.load_all()
        with monkeypatch.context() as patched, contextlib.suppress(asyncio.CancelledError):
            patched.setattr(loop, "time", lambda: now_s[0])
            patched.setattr("paddleinfer.shim.service.watch.asyncio.sleep", look)
            await watch_files(models, 0.5)
        await models.close(PATIENCE_S)

    asyncio.run(watch())
    assert generations[:4] == [1] * 4 and generations[-1] == 2
