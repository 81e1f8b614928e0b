"""Requests as clients write them, and servers for tests."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import orjson
import uvicorn
from engine_helpers import PATIENCE_S, eventually
from starlette.testclient import TestClient

from paddleinfer import Engine
from paddleinfer.serve import Service as ModelService
from paddleinfer.shim import ServiceOptions, create_app
from paddleinfer.shim.http.protocol import HttpProtocol
from paddleinfer.shim.protocol.datatypes import DATATYPES, DTYPE_OF
from paddleinfer.shim.service.service import Service

Array = np.ndarray[Any, Any]

INFER = "/v2/models/m/infer"


@contextlib.contextmanager
def client_of(engine: Engine, **options: Any) -> Iterator[TestClient]:
    """Talks to an application that serves this engine as `m`."""
    app = create_app({"m": engine}, ServiceOptions(**options))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def described(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": DATATYPES[array.dtype.name]}


def json_tensor(name: str, array: Array) -> dict[str, Any]:
    return {**described(name, array), "data": array.reshape(-1).tolist()}


def binary_tensor(name: str, array: Array) -> dict[str, Any]:
    return {**described(name, array), "parameters": {"binary_data_size": array.nbytes}}


def binary_body(document: Mapping[str, Any], *arrays: Array) -> tuple[bytes, dict[str, str]]:
    """Body and headers of JSON followed by tensors."""
    head = orjson.dumps(document)
    body = head + b"".join(array.tobytes() for array in arrays)
    return body, {"Inference-Header-Content-Length": str(len(head))}


def outputs_of(response: Any) -> dict[str, Array]:
    """The tensors of a response, in whatever form they came."""
    assert response.status_code == 200, response.text
    length = response.headers.get("inference-header-content-length")
    head = response.content if length is None else response.content[: int(length)]
    rest = b"" if length is None else response.content[int(length) :]
    tensors = {}
    for output in orjson.loads(head)["outputs"]:
        dtype = DTYPE_OF[output["datatype"]]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            array = np.array(output["data"]).astype(dtype)
        else:
            array, rest = np.frombuffer(rest[:size], dtype), rest[size:]
        tensors[output["name"]] = array.reshape(output["shape"])
    assert rest == b""
    return tensors


def error_of(response: Any, status: int) -> str:
    """The sentence of a refusal."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    message: str = response.json()["error"]
    assert message
    assert "\n" not in message
    return message


class Served:
    """A server on a port of its own, in a thread."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        connection.settimeout(PATIENCE_S)
        return connection

    def exchange(self, request: bytes) -> bytes:
        """Sends bytes as they are, and reads until the server closes or one whole response is there."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_response(connection)


class ServedHere(Served):
    """One whose parts a test can look at."""

    def __init__(self, port: int, service: Service, connections: set[Any]) -> None:
        super().__init__(port)
        self.service = service
        self._connections = connections

    def connections(self) -> list[HttpProtocol]:
        """Those that are open, once there are any."""
        assert eventually(lambda: bool(self._connections))
        return list(self._connections)


def read_response(connection: socket.socket) -> bytes:
    received = b""
    while True:
        head, separator, body = received.partition(b"\r\n\r\n")
        if separator:
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if lengths and len(body) >= int(lengths[0].split(b":")[1]):
                return received
        part = connection.recv(1 << 16)
        if not part:
            return received
        received += part


def config_of(app: Any, protocol: Any = HttpProtocol, **options: Any) -> uvicorn.Config:
    """As the command runs uvicorn, with this protocol."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol,
        lifespan="on",
        log_level="critical",
        access_log=False,
        ws="none",
        **options,
    )


@contextlib.contextmanager
def serving(engine: Engine, **options: Any) -> Iterator[ServedHere]:
    """uvicorn as the command runs it, without its signals."""
    with serving_services({"m": engine}, {}, **options) as server:
        yield server


@contextlib.contextmanager
def serving_services(
    engines: Mapping[str, Engine], services: Mapping[str, ModelService], **options: Any
) -> Iterator[ServedHere]:
    """The same with services."""
    app = create_app(engines, ServiceOptions(**options), services=services)
    config = config_of(app, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield ServedHere(listener.getsockname()[1], app.service, server.server_state.connections)
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
