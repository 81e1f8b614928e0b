"""Fixtures: a gRPC server as a process, and a client that knows it by reflection alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from grpc_outsider import Outsider
from grpc_server_process import ServerProcess, server_process


@pytest.fixture(scope="module")
def grpc_process() -> Iterator[ServerProcess]:
    """One for all tests of a module."""
    with server_process() as server:
        yield server


@pytest.fixture(scope="module")
def outsider(grpc_process: ServerProcess) -> Iterator[Outsider]:
    """It has found the service."""
    with Outsider(grpc_process.address) as outsider:
        outsider.service()
        yield outsider


@pytest.fixture
def still_answers(outsider: Outsider) -> Iterator[None]:
    """After the test the server does, also over a connection of its own."""
    yield
    assert outsider.is_answered()
    with Outsider(outsider.address) as another:
        assert another.is_answered()
