"""gRPC calls as clients make them, and servers for tests."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import uvloop
from engine_helpers import PATIENCE_S, rows
from system_tools import need

from paddleinfer import Engine
from paddleinfer.serve import Service as ModelService
from paddleinfer.serving.formats.pipeline import Pipeline
from paddleinfer.shim import ModelSource
from paddleinfer.shim.grpc.limits import MessageReader
from paddleinfer.shim.grpc.messages import SERVICE, STREAM, message_class
from paddleinfer.shim.grpc.server import GrpcServer
from paddleinfer.shim.grpc.tensors import parse_message
from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.protocol.datatypes import DATATYPES, DTYPE_OF
from paddleinfer.shim.protocol.request import InferRequest
from paddleinfer.shim.service.models import Models
from paddleinfer.shim.service.service import Service

Array = np.ndarray[Any, Any]
Metadata = tuple[tuple[str, str], ...]

ModelInferRequest = message_class("ModelInferRequest")
_read = MessageReader(ModelInferRequest)


def raw(**inputs: Array) -> dict[str, Any]:
    """Fields of a ModelInferRequest for the model `m`."""
    return {
        "model_name": "m",
        "inputs": [described(name, array) for name, array in inputs.items()],
        "raw_input_contents": [array.tobytes() for array in inputs.values()],
    }


def read_message(message: Any) -> InferRequest:
    """As the server reads the bytes of a ModelInferRequest."""
    body = message.SerializeToString()
    return parse_message(body, *_read.with_cut(body))


def described(name: str, array: Array, **fields: Any) -> dict[str, Any]:
    return {"name": name, "shape": array.shape, "datatype": DATATYPES[array.dtype.name], **fields}


def outputs_of(response: Any) -> dict[str, Array]:
    """The tensors of a ModelInferResponse."""
    assert len(response.outputs) == len(response.raw_output_contents)
    return {
        output.name: np.frombuffer(data, DTYPE_OF[output.datatype]).reshape(output.shape)
        for output, data in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """One of localhost, and its key."""
    certificate, key = directory / "cert.pem", directory / "key.pem"
    command = [need("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


class Requests:
    """Those of an open stream, sent one by one."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._queue.get, None)

    def send(self, **fields: Any) -> None:
        self._queue.put(fields)

    def end(self) -> None:
        self._queue.put(None)


class Client:
    """One channel to a server."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel

    def method(self, name: str) -> grpc.UnaryUnaryMultiCallable:
        return self.channel.unary_unary(
            f"/{SERVICE}/{name}",
            message_class(f"{name}Request").SerializeToString,
            message_class(f"{name}Response").FromString,
        )

    def call(
        self, name: str, /, *, metadata: Metadata = (), timeout: float = PATIENCE_S, **fields: Any
    ) -> Any:
        request = message_class(f"{name}Request")(**fields)
        return self.method(name)(request, timeout, metadata)

    def infer(self, *, timeout: float | None = PATIENCE_S, **fields: Any) -> Any:
        return self.method("ModelInfer")(ModelInferRequest(**fields), timeout)

    def begin(self, *, timeout: float | None = None, **fields: Any) -> Any:
        """An inference under way: a future that is also the call."""
        return self.method("ModelInfer").future(ModelInferRequest(**fields), timeout)

    def refused(self, name: str = "ModelInfer", /, **fields: Any) -> tuple[grpc.StatusCode, str]:
        """Status and sentence of a call that fails."""
        return failure(lambda: self.call(name, **fields))

    def stream(self, requests: Iterable[Mapping[str, Any]], metadata: Metadata = ()) -> Any:
        """The responses of ModelStreamInfer, as they come."""
        call = self.channel.stream_stream(
            f"/{SERVICE}/{STREAM}",
            ModelInferRequest.SerializeToString,
            message_class(f"{STREAM}Response").FromString,
        )
        return call((ModelInferRequest(**fields) for fields in requests), PATIENCE_S, metadata)

    def still_answers(self) -> None:
        assert np.array_equal(outputs_of(self.infer(**raw(x=rows())))["y"], rows() * 2)


def failure(call: Any) -> tuple[grpc.StatusCode, str]:
    """Status and sentence of what a function raises."""
    try:
        result = call()
    except grpc.RpcError as error:
        details = error.details()
        assert details and "\n" not in details
        return error.code(), details
    raise AssertionError(f"it answered {result}")


class Served(Client):
    """A gRPC server in a thread, and a client of it."""

    def __init__(self, service: Service, server: GrpcServer, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(grpc.insecure_channel(server.addresses[0]))
        self.service = service
        self.server = server
        self._loop = loop

    def begin_stop(self, timeout_s: float) -> concurrent.futures.Future[None]:
        return asyncio.run_coroutine_threadsafe(self.server.stop(timeout_s), self._loop)


@contextlib.contextmanager
def serving(
    engine: Engine | Mapping[str, Engine | ModelSource],
    services: Mapping[str, ModelService] | None = None,
    pipelines: Mapping[str, Pipeline] | None = None,
    **options: Any,
) -> Iterator[Served]:
    """Serves this engine as `m`, or these by their names."""
    engines = {"m": engine} if isinstance(engine, Engine) else engine
    settings = ServerOptions(**{"host": "127.0.0.1", "grpc_port": 0, **options})
    service = Service(Models.of(engines), settings.service_options(), services or {}, pipelines or {})
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(PATIENCE_S)

    async def started() -> GrpcServer:
        await service.models.load_all()
        server = GrpcServer(service, settings)
        await server.start()
        return server

    try:
        server = run(started())
        try:
            served = Served(service, server, loop)
            with served.channel:
                yield served
        finally:
            run(server.stop(0.0))
            run(service.models.close(PATIENCE_S))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        loop.close()
