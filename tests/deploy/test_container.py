"""The image's steps, taken without Docker: installed, started, asked whether it is healthy, drained."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from deploy_files import ROOT, image
from engine_helpers import PATIENCE_S
from free_ports import free_ports
from sandbox import Container, RunningServer, install
from zoo import Zoo

pytestmark = pytest.mark.system

IMAGE = image()
CACHE = "/var/cache/paddleinfer"
_WRITE = """
import pathlib, sys
for folder in sys.argv[1:]:
    try:
        (pathlib.Path(folder) / "new").touch()
        print(folder)
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def container(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Container:
    wheels = list((ROOT / "build/dist").glob("*.whl"))
    assert len(wheels) == 1, "make test-wheel makes the wheel"
    environment = ROOT / "build/container"
    install(wheels[0], environment, IMAGE.extras)
    cache = tmp_path_factory.mktemp("cache")
    model = zoo.directory("mlp", zoo.formats[0])
    return Container(IMAGE, environment, mounts={"/models/model": model}, writable={CACHE: cache})


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    """Ports that are free; nobody has to learn of the end before it."""
    port, grpc_port = free_ports(2)
    return {
        "PADDLEINFER_PORT": str(port),
        "PADDLEINFER_GRPC_PORT": str(grpc_port),
        "PADDLEINFER_DRAIN_DELAY": "0",
    }


@pytest.fixture
def server(container: Container, variables: dict[str, str]) -> Iterator[RunningServer]:
    with container.serving(variables) as server:
        yield server


def test_the_image_s_command_serves_as_its_user_is_healthy_and_drains(
    container: Container, variables: dict[str, str], server: RunningServer
) -> None:
    status = Path(f"/proc/{server.number}/status").read_text()
    assert f"\nNSpid:\t{server.number}\t1\n" in status  # it gets the signal itself
    assert f"\nUid:\t{os.getuid() or container.user}\t" in status and container.user > 0
    url = f"http://127.0.0.1:{variables['PADDLEINFER_PORT']}"
    rows = [[0.5] * 16] * 2
    request = {"inputs": [{"name": "x", "shape": [2, 16], "datatype": "FP32", "data": rows}]}
    answer = httpx.post(f"{url}/v2/models/model/infer", json=request, timeout=PATIENCE_S)
    assert answer.status_code == 200 and answer.json()["outputs"][0]["shape"] == [2, 4]
    assert container.run(IMAGE.health, variables).returncode == 0
    code, written = server.ends_by(getattr(signal, IMAGE.stop_signal))
    assert (code, "received SIGTERM; draining" in written) == (0, True), written
    assert container.run(IMAGE.health, variables).returncode != 0


def test_it_may_write_to_its_cache_and_to_temporary_files_only(
    container: Container, variables: dict[str, str]
) -> None:
    folders = ["/", "/home/paddleinfer", "/models/model", "/etc", "/usr", "/opt/paddleinfer", "/tmp", CACHE]
    done = container.run(["python", "-c", _WRITE, *folders], variables)
    assert done.stdout.split() == ["/tmp", CACHE], done.stderr
