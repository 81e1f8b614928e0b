"""What starts the server under deploy/ uses options that there are, and gives it time to end."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from deploy_files import DEPLOY, Start, starts, with_files
from http_commands import plan
from zoo import Zoo

from paddleinfer.options.flags import ENVIRONMENT_PREFIX, engine_flags, flags_of
from paddleinfer.shim.cli import Plan
from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.settings_file import read_settings

# Answers that are written, spans that are sent (5 s at most), and the process's own end.
MARGIN_S = 10
FLAGS = [*flags_of(ServerOptions), *(flag for group in engine_flags().values() for flag in group)]
VARIABLES = {ENVIRONMENT_PREFIX + flag.name.upper() for flag in FLAGS}
STARTS = list(starts())


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "api-key"
    path.write_text("secret\n")
    return path


@pytest.fixture
def model(zoo: Zoo) -> Path:
    return zoo.directory("mlp", zoo.formats[0])


@pytest.fixture
def settings(tmp_path: Path, model: Path) -> Path:
    """systemd/server.toml, of a model that there is."""
    text = (DEPLOY / "systemd/server.toml").read_text()
    placed = text.replace("/var/lib/paddleinfer/models/digits", str(model))
    assert placed != text
    path = tmp_path / "server.toml"
    path.write_text(placed)
    return path


def planned(start: Start, model: Path, key: Path, settings: Path) -> Plan:
    here = with_files(start, model, key, settings)
    return plan(*here.arguments, environment=dict(here.environment))


def test_there_is_a_start_of_each_kind() -> None:
    assert {start.where for start in STARTS} == {
        "Dockerfile",
        "docker-compose.yml",
        "kubernetes/deployment.yaml",
        "kserve/runtime.yaml",
        "kserve/inferenceservice.yaml",
        "paddleinfer.service",
    }


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.where)
def test_the_command_takes_every_flag_and_every_variable(
    start: Start, model: Path, key: Path, settings: Path
) -> None:
    ours = {name for name in start.environment if name.startswith(ENVIRONMENT_PREFIX)}
    assert ours <= VARIABLES
    assert len(planned(start, model, key, settings).models) == 1


@pytest.mark.parametrize(
    "start", [start for start in STARTS if start.grace_s is not None], ids=lambda start: start.where
)
def test_nobody_kills_the_server_before_its_drain_can_have_ended(
    start: Start, model: Path, key: Path, settings: Path
) -> None:
    server = planned(start, model, key, settings).server
    assert start.grace_s is not None
    assert start.grace_s >= server.drain_delay + server.drain_timeout + MARGIN_S
    assert server.drain_timeout > 0


@pytest.mark.parametrize(
    "start", [start for start in STARTS if start.where.startswith("k")], ids=lambda start: start.where
)
def test_in_kubernetes_new_requests_are_served_until_the_routers_know(
    start: Start, model: Path, key: Path, settings: Path
) -> None:
    assert planned(start, model, key, settings).server.drain_delay >= 5


def test_a_flag_that_is_not_there_would_be_found(model: Path, key: Path, settings: Path) -> None:
    [start, *_] = STARTS
    wrong = dataclasses.replace(start, arguments=[*start.arguments, "--drain-dealy=5"])
    with pytest.raises(SystemExit, match="2"):
        planned(wrong, model, key, settings)


def test_the_unit_s_settings_are_those_of_a_server_behind_nginx(settings: Path) -> None:
    server = ServerOptions(**read_settings(settings).server)
    assert server.host == "127.0.0.1" and server.serves_grpc
    assert server.max_connections_per_address == server.max_connections
