"""A server that ends while clients wait to be accepted: each is answered, and none is reset."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from engine_helpers import PATIENCE_S
from http_processes import Server, waiting_server
from raw_http import HANDLERS, post, split

CLIENTS = 500
DRAINS = int(os.environ.get("PADDLEINFER_DRAINS", "2"))
"""How often, of each kind."""


def ends_of(server: Server, path: str | None) -> Counter[object]:
    """SIGTERM to a server that stands still, so that so many clients wait to be accepted by then."""
    ends: Counter[object] = Counter()
    with ExitStack() as stack:
        server.process.send_signal(signal.SIGSTOP)
        clients = []
        for number in range(CLIENTS):
            family = socket.AF_INET if path is None else socket.AF_UNIX
            client = stack.enter_context(socket.socket(family))
            client.settimeout(PATIENCE_S)
            client.connect(path or ("127.0.0.1", urlsplit(server.url).port))
            client.sendall(post(list(HANDLERS.values())[number % 2]))
            clients.append(client)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        for client in clients:
            try:
                received = b""
                while part := client.recv(1 << 16):
                    received += part
                ends[tuple(status for status, _ in split(received))] += 1
            except OSError as error:
                ends[type(error)] += 1
    return ends


@pytest.mark.parametrize("turn", range(DRAINS))
@pytest.mark.parametrize("is_unix", [False, True])
def test_clients_in_the_listen_backlog_are_answered(tmp_path: Path, turn: int, is_unix: bool) -> None:
    (tmp_path / "go").touch()
    path = str(tmp_path / "s") if is_unix else None
    options = {"uds": path} if path else {}
    with waiting_server(tmp_path, **options) as server:
        assert ends_of(server, path) == {(200,): CLIENTS}
        code, errors = server.end()
    assert code == 0
    assert "Traceback" not in errors


def test_a_connection_that_has_asked_nothing_keeps_the_server_for_a_moment_only(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with waiting_server(tmp_path) as server:
        host, port = urlsplit(server.url).hostname, urlsplit(server.url).port
        with socket.create_connection((host, port), PATIENCE_S) as silent:
            time.sleep(0.1)
            server.process.send_signal(signal.SIGTERM)
            assert silent.recv(1) == b""
        assert server.end()[0] == 0
