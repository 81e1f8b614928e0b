"""A real nginx with the site before a real server: HTTP, gRPC and its streams, and what it refuses."""

from __future__ import annotations

import http.client
import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import httpx2 as httpx
import numpy as np
import pytest
from deploy_files import DEPLOY
from engine_helpers import PATIENCE_S, eventually
from free_ports import free_ports
from grpc_helpers import Client, make_certificate, outputs_of, raw
from http_processes import started
from system_tools import need
from zoo import Zoo

from paddleinfer.shim.options import ServerOptions

pytestmark = pytest.mark.system

ROWS = np.full((2, 16), 0.5, np.float32)
REQUEST = {"inputs": [{"name": "x", "shape": [2, 16], "datatype": "FP32", "data": ROWS.tolist()}]}
MAIN = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """Where nginx listens, and its certificate."""

    port: int
    certificate: Path

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)

    def client(self) -> httpx.Client:
        url = f"https://localhost:{self.port}"
        return httpx.Client(base_url=url, verify=self.context, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def proxy(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("nginx")
    certificate, key = make_certificate(folder)
    options = ["--model", f"m={zoo.directory('mlp', zoo.formats[0])}"]
    options += ["--host", "127.0.0.1", "--port", "0", "--grpc-port", "0"]
    with started("-m", "paddleinfer.shim", *options) as server:
        [over_grpc] = [line for line in server.lines if "serves gRPC on" in line]
        [port] = free_ports(1)
        text = (DEPLOY / "nginx/paddleinfer.conf").read_text()
        for place, here in (
            ("127.0.0.1:9393", urlsplit(server.url).netloc),
            ("127.0.0.1:8001", over_grpc.rpartition(" ")[2]),
            ("listen 443 ", f"listen 127.0.0.1:{port} "),
            ("/etc/nginx/tls/models.crt", str(certificate)),
            ("/etc/nginx/tls/models.key", str(key)),
        ):
            assert text.count(place) == 1, place
            text = text.replace(place, here)
        (folder / "site.conf").write_text(text)
        (folder / "nginx.conf").write_text(
            MAIN.format(folder=folder, user="user root;" if os.getuid() == 0 else "")
        )
        command = [need("nginx", "nginx-light"), "-p", str(folder), "-c", str(folder / "nginx.conf")]
        checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        assert checked.returncode == 0 and "[warn]" not in checked.stderr, checked.stderr
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        running = Proxy(port, certificate)
        try:
            assert eventually(lambda: answers(running) or process.poll() is not None)
            assert process.poll() is None, process.communicate()[1]
            yield running
        finally:
            process.terminate()
            process.communicate()


def answers(proxy: Proxy) -> bool:
    try:
        with proxy.client() as client:
            return client.get("/v2/health/ready").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Client]:
    credentials = grpc.ssl_channel_credentials(proxy.certificate.read_bytes())
    with grpc.secure_channel(f"localhost:{proxy.port}", credentials) as channel:
        yield Client(channel)


def test_requests_over_http_reach_the_server(proxy: Proxy) -> None:
    with proxy.client() as client:
        for _ in range(3):
            answer = client.post("/v2/models/m/infer", json=REQUEST)
            assert answer.status_code == 200 and answer.json()["outputs"][0]["shape"] == [2, 4]
        page = client.get("/")
        assert page.status_code == 200 and "paddleinfer" in page.text
        trace = client.get("/v2/trace", params={"seconds": 0.1})
        assert trace.status_code == 200 and "traceEvents" in trace.json()


def test_a_body_of_a_megabyte_passes(proxy: Proxy) -> None:
    many = {"inputs": [{**REQUEST["inputs"][0], "shape": [20_000, 16], "data": [0.5] * 320_000}]}
    with proxy.client() as client:
        assert client.post("/v2/models/m/infer", json=many).status_code == 200


@pytest.mark.parametrize(("bytes_over", "status"), [(0, 400), (1, 413)])
def test_bodies_are_refused_from_where_the_server_refuses_them(
    proxy: Proxy, bytes_over: int, status: int
) -> None:
    length = ServerOptions().max_body_bytes + bytes_over
    connection = http.client.HTTPSConnection("localhost", proxy.port, context=proxy.context)
    try:
        connection.putrequest("POST", "/v2/models/m/infer")
        connection.putheader("Content-Length", str(length))
        connection.putheader("Inference-Header-Content-Length", "nothing")  # which the server refuses
        connection.endheaders()
        if not bytes_over:
            connection.send(bytes(length))
        assert connection.getresponse().status == status
    finally:
        connection.close()


def test_metrics_are_not_for_those_outside(proxy: Proxy) -> None:
    with proxy.client() as client:
        assert client.get("/metrics").status_code == 404


def test_calls_and_streams_over_grpc_reach_the_server(client: Client) -> None:
    assert client.call("ServerReady").ready
    alone = outputs_of(client.infer(**raw(x=ROWS)))
    responses = client.stream([raw(x=ROWS)] * 3)
    for response in responses:
        assert response.error_message == ""
        streamed = outputs_of(response.infer_response)
        assert streamed.keys() == alone.keys()
        for name, rows in alone.items():
            assert np.allclose(streamed[name], rows)
