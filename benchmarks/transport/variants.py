"""Defines the ways from a caller to a model: what each does with a tensor before, in and after the request.

A further variant is a class with the methods of `Variant`, and an entry in what `opened` yields.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
import orjson

from benchmarks.models import SEED, directory
from benchmarks.transport.client import TIMEOUT_S, Answer, Buffer, Connection, request
from benchmarks.transport.grpc import Stream, Unary, channel
from benchmarks.transport.server import served
from paddleinfer import Engine

Array = np.ndarray[Any, Any]

IN_PROCESS = "in process"
# Their runs take next to no time, so that communication shows.
SERVED = ("doubled", "largest")
_HEADER_BYTES = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Case:
    """One row of so many float32, and its model."""

    name: str
    numbers: int
    model: str

    def row(self) -> Array:
        """Seeded."""
        return np.random.default_rng(SEED).standard_normal((1, self.numbers), dtype=np.float32)


CASES = (
    Case("512 bytes there and back", 128, "doubled"),
    Case("49 kB there and back", 3 * 64 * 64, "doubled"),
    Case("602 kB there and back", 3 * 224 * 224, "doubled"),
    Case("602 kB there, one number back", 3 * 224 * 224, "largest"),
)


class Variant(Protocol):
    """Asks a model one way, in the stages that the caller sees."""

    def begin(self) -> None:
        """Prepares a window of requests: it reconnects, because the server hangs up on silent clients."""

    def encode(self, row: Array) -> Any:
        """Turns an array into what is sent."""

    def trip(self, encoded: Any) -> Any:
        """Sends it and waits for the answer."""

    def decode(self, answer: Any) -> Array:
        """Turns the answer into an array."""


class InProcess:
    """`engine.infer`, with nothing to encode."""

    def __init__(self, engine: Engine) -> None:
        self._infer = engine.infer

    def begin(self) -> None:
        """Does nothing: there is no connection."""

    def encode(self, row: Array) -> dict[str, Array]:
        """Makes the dict that `infer` takes."""
        return {"x": row}

    def trip(self, encoded: dict[str, Array]) -> Mapping[str, Array]:
        """One call."""
        return self._infer(encoded)

    def decode(self, answer: Mapping[str, Array]) -> Array:
        """Returns the only output."""
        (result,) = answer.values()
        return result


class Json:
    """The Open Inference Protocol in JSON, by a fast encoder."""

    def __init__(self, connection: Connection, model: str) -> None:
        self.begin, self.trip = connection.open, connection.ask
        self._path = f"/v2/models/{model}/infer"

    def encode(self, row: Array) -> list[Buffer]:
        """Writes all numbers as decimals."""
        tensor = {"name": "x", "shape": row.shape, "datatype": "FP32", "data": row.reshape(-1)}
        body = orjson.dumps({"inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)
        return request(self._path, {"Content-Type": "application/json"}, [body])

    def decode(self, answer: Answer) -> Array:
        """From decimals."""
        (output,) = orjson.loads(answer.body)["outputs"]
        array: Array = np.array(output["data"], np.float32).reshape(output["shape"])
        return array


def binary_parts(row: Array) -> tuple[dict[str, str], list[Buffer]]:
    """Makes headers and body of a request with a binary tensor."""
    size = {"binary_data_size": row.nbytes}
    tensor = {"name": "x", "shape": row.shape, "datatype": "FP32", "parameters": size}
    header = orjson.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}})
    headers = {"Content-Type": "application/octet-stream", _HEADER_BYTES: str(len(header))}
    return headers, [header, memoryview(row.data).cast("B")]


class Binary:
    """The same protocol with its binary tensors, both ways."""

    def __init__(self, connection: Connection, model: str) -> None:
        self.begin, self.trip = connection.open, connection.ask
        self._path = f"/v2/models/{model}/infer"

    def encode(self, row: Array) -> list[Buffer]:
        """Makes a short JSON header, and adds the array's own memory."""
        headers, body = binary_parts(row)
        return request(self._path, headers, body)

    def decode(self, answer: Answer) -> Array:
        """Returns a view of the answer."""
        header_bytes = int(answer.headers[_HEADER_BYTES.lower()])
        (output,) = orjson.loads(answer.body[:header_bytes])["outputs"]
        numbers = np.frombuffer(answer.body, np.float32, offset=header_bytes)
        array: Array = numbers.reshape(output["shape"])
        return array


class BinaryByLibrary(Binary):
    """The same bytes through the standard library's client, as gRPC goes through its own library."""

    def __init__(self, connection: http.client.HTTPConnection, model: str) -> None:
        self.begin = connection.close  # the connection opens itself
        self._connection = connection
        self._path = f"/v2/models/{model}/infer"

    def encode(self, row: Array) -> Any:
        """Makes headers, and a body in one piece, because the library would send pieces one by one."""
        headers, body = binary_parts(row)
        return headers, b"".join(body)

    def trip(self, encoded: Any) -> Answer:
        """One request."""
        headers, body = encoded
        self._connection.request("POST", self._path, body, headers)
        response = self._connection.getresponse()
        received = response.read()
        if response.status != 200:
            raise OSError(f"{response.status}: {received[:200]!r}")
        return Answer({name.lower(): value for name, value in response.getheaders()}, memoryview(received))


@contextlib.contextmanager
def opened() -> Iterator[dict[str, Callable[[Case], Variant]]]:
    """Opens every variant: an engine in this process, and a server for each kind of socket."""
    models = {model: directory(model) for model in SERVED}
    with contextlib.ExitStack() as closing:
        engines = {model: closing.enter_context(Engine(path)) for model, path in models.items()}
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        http_place, grpc_place = str(folder / "http"), str(folder / "grpc")
        where = closing.enter_context(served(models, ["--uds", http_place, "--grpc-uds", grpc_place]))
        unix = closing.enter_context(contextlib.closing(Connection(socket.AF_UNIX, http_place)))
        unix_grpc = closing.enter_context(channel(where.grpc))
        where = closing.enter_context(
            served(models, ["--host", "127.0.0.1", "--port", "0", "--grpc-port", "0"])
        )
        port = urllib.parse.urlsplit(where.http).port
        tcp = closing.enter_context(contextlib.closing(Connection(socket.AF_INET, ("127.0.0.1", port))))
        library = closing.enter_context(
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S))
        )
        tcp_grpc = closing.enter_context(channel(where.grpc))

        def streamed(connection: grpc.Channel, case: Case) -> Variant:
            return closing.enter_context(contextlib.closing(Stream(connection, case.model)))

        yield {
            IN_PROCESS: lambda case: InProcess(engines[case.model]),
            "Unix socket, binary": lambda case: Binary(unix, case.model),
            "TCP, binary": lambda case: Binary(tcp, case.model),
            "TCP, binary, http.client": lambda case: BinaryByLibrary(library, case.model),
            "Unix socket, gRPC": lambda case: Unary(unix_grpc, case.model),
            "TCP, gRPC": lambda case: Unary(tcp_grpc, case.model),
            "Unix socket, gRPC stream": lambda case: streamed(unix_grpc, case),
            "TCP, gRPC stream": lambda case: streamed(tcp_grpc, case),
            "Unix socket, JSON": lambda case: Json(unix, case.model),
            "TCP, JSON": lambda case: Json(tcp, case.model),
        }
