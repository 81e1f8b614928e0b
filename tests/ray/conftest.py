"""One local Ray for the tests that need one, and replicas over functions that wait for a word."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from free_ports import free_ports

from paddleinfer import Engine, EngineConfig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Ray itself uses what Pydantic has deprecated."""
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.filterwarnings(r"ignore:::ray\."))


@pytest.fixture(scope="session")
def local_ray() -> Iterator[Any]:
    """Ray on this machine with two CPUs, for all tests but those that make their own cluster."""
    import ray

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    # What replicas know reaches the controller each second, not each ten.
    os.environ["RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S"] = "1"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def started_serve(local_ray: Any) -> Iterator[Any]:
    """Serve, the URL of its proxy as ``url``, and where that takes gRPC as ``grpc_address``."""
    from ray import serve

    port, grpc_port = free_ports(2)
    serve.start(
        http_options={"port": port, "host": "127.0.0.1"},
        grpc_options={
            "port": grpc_port,
            "grpc_servicer_functions": ["paddleinfer.ray.add_inference_service"],
        },
    )
    serve.url = f"http://127.0.0.1:{port}"
    serve.grpc_address = f"127.0.0.1:{grpc_port}"
    yield serve
    serve.shutdown()


@pytest.fixture
def serve(started_serve: Any) -> Iterator[Any]:
    """Serve; its applications end with the test."""
    yield started_serve
    for name in started_serve.status().applications:
        started_serve.delete(name)


class Gate:
    """A file that runs of a model wait for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        """Lets all runs through."""
        self.path.touch()

    def reached(self) -> bool:
        """Whether a run has come to it."""
        return self.path.with_suffix(".reached").exists()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A closed gate, which the test's end opens."""
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


@pytest.fixture
def gated(serve: Any, gate: Gate) -> Callable[..., Any]:
    """Runs replicas that double their input once the gate is open; gives their handle."""
    from paddleinfer.ray.replica import EngineReplica

    path = str(gate.path)

    class Gated(EngineReplica):
        def _load(self, _: str, config: EngineConfig) -> Engine:
            def double(feeds: dict[str, Any]) -> dict[str, Any]:
                Path(path).with_suffix(".reached").touch()
                while not os.path.exists(path):
                    time.sleep(0.01)
                return {"y": feeds["x"] * 2}

            return Engine.from_callable(double, {"x": ("float32", (-1, 3))}, ["y"], config=config)

    def run(options: dict[str, Any] | None = None, **engine_options: Any) -> Any:
        given = {"max_ongoing_requests": 100, **(options or {})}
        config = EngineConfig.from_options({"instances": 1, "batchable": True, **engine_options})
        deployed = serve.deployment(name="gated", **given)(Gated)
        return serve.run(deployed.bind("", config, "gated", {}))

    return run
