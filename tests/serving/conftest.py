"""The models of Paddle Serving's examples, made once, and what the tests of its clients share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_helpers import engine_of
from http_helpers import Served, client_of, serving
from pipeline_listener import Listener
from serving_models import DOUBLING_CONF, HOUSE, make_fit_a_line, price_of
from starlette.testclient import TestClient

from paddleinfer import Engine
from paddleinfer.cli.main import main
from paddleinfer.models.serving_conf import CLIENT_FILE_NAME
from paddleinfer.serving import PipelineClient


@pytest.fixture(scope="session")
def fit_a_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house -> its price."""
    return make_fit_a_line(tmp_path_factory.mktemp("fit-a-line") / "uci_housing_model")


@pytest.fixture(scope="session")
def price(fit_a_line: Path) -> float:
    """What ``fit_a_line`` says of HOUSE."""
    return float(price_of(fit_a_line, np.array([HOUSE]))[0, 0])


@pytest.fixture(scope="session")
def uci_client(fit_a_line: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that a client of ``fit_a_line`` has."""
    model = Path(shutil.copytree(fit_a_line, tmp_path_factory.mktemp("client") / "model"))
    client = model.parent / "uci_housing_client"
    assert main(["convert", str(model), "--serving_client", str(client)]) == 0
    return client


@pytest.fixture(scope="module")
def uci_server(fit_a_line: Path) -> Iterator[Served]:
    with Engine(fit_a_line) as engine, serving(engine) as served:
        yield served


@pytest.fixture
def doubling() -> Iterator[TestClient]:
    """A server of one model, which doubles three numbers."""
    with engine_of() as engine, client_of(engine) as client:
        yield client


@pytest.fixture
def doubling_conf(tmp_path: Path) -> Path:
    """What a client reads of that model."""
    (tmp_path / CLIENT_FILE_NAME).write_text(DOUBLING_CONF)
    return tmp_path / CLIENT_FILE_NAME


@pytest.fixture(scope="module")
def listening() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.fixture
def listener(listening: Listener) -> Listener:
    """A module's listener, as a new one."""
    listening.bodies.clear()
    listening.answer = b""
    return listening


@pytest.fixture
def client() -> Iterator[PipelineClient]:
    """It is released at the end, once more where a test has done so."""
    client = PipelineClient()
    yield client
    client.release()
