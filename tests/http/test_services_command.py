"""Services on the command line, by module and name."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import httpx2 as httpx
import pytest
from engine_helpers import PATIENCE_S, eventually
from http_commands import plan, refused
from http_processes import started
from zoo import Zoo

import paddleinfer

MODULE = """
import pathlib
import time

from paddleinfer.serve import Service

class Shape(Service):
    def preprocess(self, request):
        return {"x": __import__("numpy").array(request.value, "float32")}
    def postprocess(self, results, request):
        return {name: list(array.shape) for name, array in results.items()}

def fails():
    raise KeyError("why")

nothing = 3
words = Service({}, handle=lambda request, engines: request.value)

def wait(request, engines):
    here = pathlib.Path(request.value)
    (here / "begun").touch()
    while not (here / "end").exists():
        time.sleep(0.01)
    return "done"

waits = Service({}, handle=wait)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"pipeline_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_broken.py").write_text("import nothing_like_that\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_services_are_given_by_module_and_name(module: str, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f'[services]\nfrom_file = "{module}:words"\n')
    services = plan(
        "--service", f"a={module}:words", "--service", f"{module}:Shape", "--config", file
    ).services
    assert list(services) == ["from_file", "a", "Shape"]
    assert not services["Shape"].has_engines


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("{m}", "named as module:Name"),
        ("{m}:", "named as module:Name"),
        ("{m}:Nobody", "has no Nobody"),
        ("{m}:nothing", "must be a Service, or make one, and is 3"),
        ("{m}:fails", "makes no service: KeyError"),
        ("{m}_broken:S", "cannot be imported: ModuleNotFoundError"),
        ("a/b={m}:words", "made of letters"),
    ],
)
def test_a_place_without_a_service_is_refused(
    module: str, place: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refused(capsys, "--service", place.format(m=module))


def test_two_services_of_one_name_are_refused(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    twice = refused(capsys, "--service", f"{module}:words", "--service", f"words={module}:Shape")
    assert "two services are named 'words'" in twice


def test_the_command_serves_a_service_around_its_models(module: str, tmp_path: Path, zoo: Zoo) -> None:
    model = zoo.directory("mlp", zoo.formats[0])
    arguments = ["--model", f"mlp={model}", "--service", f"shape={module}:Shape"]
    with started(
        *("-m", "paddleinfer.shim", "--host", "127.0.0.1", "--port", "0", *arguments), folder=tmp_path
    ) as server:
        assert any(
            line.startswith("shape: a service at /services/shape, preprocess") for line in server.lines
        )
        width = paddleinfer.models.reader.load_spec(model).inputs[0].shape[1]
        answer = httpx.post(f"{server.url}/services/shape", json=[[1.0] * width], timeout=PATIENCE_S)
        assert answer.status_code == 200 and next(iter(answer.json().values()))[0] == 1


@pytest.mark.parametrize("is_over", [True, False], ids=["in-time", "cut"])
def test_a_server_that_ends_lets_services_end(module: str, tmp_path: Path, is_over: bool) -> None:
    flags = ["--service", f"{module}:waits", *([] if is_over else ["--drain-timeout", "0.1"])]
    answers: list[httpx.Response] = []
    with started(
        *("-m", "paddleinfer.shim", "--host", "127.0.0.1", "--port", "0", *flags), folder=tmp_path
    ) as server:

        def ask() -> None:
            url = f"{server.url}/services/waits"
            answers.append(httpx.post(url, json=str(tmp_path), timeout=PATIENCE_S))

        asking = threading.Thread(target=ask)
        asking.start()
        assert eventually((tmp_path / "begun").exists)
        server.process.send_signal(signal.SIGTERM)
        if is_over:
            assert server.process.stderr is not None
            assert any("draining 1 request" in line for line in iter(server.process.stderr.readline, ""))
            (tmp_path / "end").touch()
        code, _ = server.end()
        asking.join(PATIENCE_S)
    assert code == (0 if is_over else 3)
    assert [answer.status_code for answer in answers] == [200 if is_over else 503]
