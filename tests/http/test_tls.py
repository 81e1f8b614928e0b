"""Clients that do not complete their TLS handshake."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from engine_helpers import PATIENCE_S, eventually
from http_processes import Server, waiting_server
from raw_http import answers, get, post
from system_tools import need


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate of localhost, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    named = {"tls_cert": str(directory / "cert.pem"), "tls_key": str(directory / "key.pem")}
    command = [need("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-keyout", named["tls_key"], "-out", named["tls_cert"]]
    subprocess.run(command, check=True, capture_output=True)
    return named


def connect(server: Server) -> socket.socket:
    port = urlsplit(server.url).port
    assert port is not None
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S)


def secured(connection: socket.socket, files: dict[str, str]) -> ssl.SSLSocket:
    return ssl.create_default_context(cafile=files["tls_cert"]).wrap_socket(
        connection, server_hostname="localhost"
    )


def status_of(server: Server, files: dict[str, str], request: bytes) -> int:
    with connect(server) as plain, secured(plain, files) as connection:
        connection.sendall(request)
        return answers(connection)[0][0]  # type: ignore[arg-type]


def test_handshakes_that_do_not_come_end_and_others_are_served_meanwhile(
    tmp_path: Path, files: dict[str, str]
) -> None:
    (tmp_path / "go").touch()
    with (
        waiting_server(tmp_path, tls_handshake_timeout=5.0, **files) as server,
        contextlib.ExitStack() as stack,
    ):
        silent = [stack.enter_context(connect(server)) for _ in range(20)]
        stack.enter_context(connect(server)).sendall(get("/v2/health/live"))  # no TLS at all
        silent[0].sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a hello
        silent[1].close()
        assert status_of(server, files, post(b"Connection: close\r\n")) == 200
        assert status_of(server, files, get("/v2/health/live", b"Connection: close\r\n")) == 200
        for connection in (silent[0], *silent[2:]):
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        server.process.terminate()
        code, errors = server.end()
    assert code == 0
    assert "Traceback" not in errors and "rror" not in errors


def test_connections_in_a_handshake_count(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "go").touch()
    options = {"max_connections": 2, "tls_handshake_timeout": 2.0}
    with waiting_server(tmp_path, **options, **files) as server, connect(server), connect(server) as second:
        with connect(server) as third, contextlib.suppress(ConnectionResetError):
            assert third.recv(1) == b""
        second.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionResetError):
            assert second.recv(1) == b""  # its time was over
        assert eventually(lambda: serves(server, files))


def serves(server: Server, files: dict[str, str]) -> bool:
    try:
        return status_of(server, files, get("/v2/health/live", b"Connection: close\r\n")) == 200
    except OSError:  # the places are not free yet
        return False


def test_a_request_that_comes_with_the_end_of_the_handshake_is_answered(
    tmp_path: Path, files: dict[str, str]
) -> None:
    """Both in one packet: TLS through memory, so that nothing is sent in between."""
    (tmp_path / "go").touch()
    with waiting_server(tmp_path, **files) as server, connect(server) as connection:
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=files["tls_cert"])
        client = context.wrap_bio(coming, going, server_hostname="localhost")
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(going.read())
                coming.write(connection.recv(1 << 16))
        client.write(post(b"Connection: close\r\n"))
        connection.sendall(going.read())
        received = b""
        while b'"outputs"' not in received:
            try:
                received += client.read(1 << 16)
            except ssl.SSLWantReadError:
                part = connection.recv(1 << 16)
                assert part
                coming.write(part)
        assert received.startswith(b"HTTP/1.1 200")


def test_many_clients_over_tls_are_answered(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "go").touch()
    statuses: list[int] = []
    with waiting_server(tmp_path, **files) as server:

        def ask() -> None:
            statuses.append(status_of(server, files, post(b"Connection: close\r\n")))

        threads = [threading.Thread(target=ask) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert statuses == 30 * [200]
