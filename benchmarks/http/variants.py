"""Defines the variants of bench_http: the command of each server, and its request.

Ours gets the Open Inference Protocol, over HTTP and gRPC; the others get the bare row over HTTP, whose JSON
is a little shorter.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson

from benchmarks.http.envs import python_of
from benchmarks.http.load import Array, Ask, GrpcAsk
from benchmarks.transport.grpc import INFER, decoded, encoded

OURS_JSON, OURS_BINARY = "paddleinfer-http, JSON", "paddleinfer-http, binary"
CEILING_JSON, CEILING_BINARY = "bare ASGI, JSON", "bare ASGI, binary"
LOCKED, BATCHER = "Starlette, a lock", "Starlette, 40-line batcher"
LITSERVE, BENTOML, RAY = "LitServe", "BentoML", "Ray Serve"
MOSEC, MOSEC_2 = "mosec, one model process", "mosec, two model processes"
CEILING_OF = {OURS_JSON: CEILING_JSON, OURS_BINARY: CEILING_BINARY}
OURS_GRPC, CEILING_GRPC = "paddleinfer-http, gRPC", "bare grpc.aio"

_JSON = {"Content-Type": "application/json"}
# The settings of its guide for throughput; usage reports to its makers are off.
_RAY = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class Ports(NamedTuple):
    """Free ports; only our server uses the one for gRPC."""

    http: int
    grpc: int


@dataclass(frozen=True)
class Start:
    """Makes a server's command from ports and model, at its start, because that may install it."""

    command: Callable[[Ports, Path], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)


def _ours(ports: Ports, model: Path) -> list[str]:
    command = [sys.executable, "-m", "paddleinfer.shim", "--model", f"m={model}", "--host", "127.0.0.1"]
    return [*command, "--port", str(ports.http), "--grpc-port", str(ports.grpc)]


def _app(module: str) -> Callable[[Ports, Path], list[str]]:
    return lambda ports, model: [sys.executable, "-m", f"benchmarks.http.apps.{module}"]


def _baseline(name: str) -> Callable[[Ports, Path], list[str]]:
    return lambda ports, model: [str(python_of(name)), "-m", f"benchmarks.http.apps.{name}_app"]


def _bentoml(ports: Ports, model: Path) -> list[str]:
    serve = ["-m", "bentoml", "serve", "benchmarks.http.apps.bentoml_app:Model"]
    return [str(python_of("bentoml")), *serve, "--host", "127.0.0.1", "--port", str(ports.http)]


OURS = Start(_ours)
CEILING = Start(_app("ceiling"))
GRPC_CEILING = Start(_app("grpc_ceiling"))
BASELINES = {
    LOCKED: Start(_app("starlette_app"), {"BENCH_KIND": "locked"}),
    BATCHER: Start(_app("starlette_app"), {"BENCH_KIND": "batcher"}),
    LITSERVE: Start(_baseline("litserve")),
    MOSEC: Start(_baseline("mosec"), {"BENCH_PROCESSES": "1"}),
    MOSEC_2: Start(_baseline("mosec"), {"BENCH_PROCESSES": "2"}),
    BENTOML: Start(_bentoml, {"BENTOML_DO_NOT_TRACK": "True"}),
    RAY: Start(_baseline("ray"), _RAY),
}
VARIANTS = (OURS_JSON, CEILING_JSON, OURS_BINARY, CEILING_BINARY, OURS_GRPC, CEILING_GRPC, *BASELINES)


def ask_ours(row: Array, *, binary: bool) -> Ask:
    """Asks with a row of the input x, as JSON or as a binary tensor; the answer has the same form."""
    tensor = {"name": "x", "shape": row.shape, "datatype": "FP32"}
    if not binary:
        body = _dumped({"inputs": [{**tensor, "data": row.reshape(-1)}]})
        return Ask("/v2/models/m/infer", body, _JSON, _read_protocol)
    size = {"binary_data_size": row.nbytes}
    asked = {"inputs": [{**tensor, "parameters": size}], "parameters": {"binary_data_output": True}}
    header = _dumped(asked)
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
    }
    return Ask("/v2/models/m/infer", header + row.tobytes(), headers, _read_protocol)


def ask_ours_grpc(row: Array) -> GrpcAsk:
    """Asks with the same row in a message, with raw contents."""
    return GrpcAsk(INFER, encoded(row, "m"), decoded)


def ask_ceiling(ours: Ask, variant: str) -> Ask:
    """Makes the same request, at the path of its variant."""
    return Ask("/" + variant.rpartition(" ")[2], ours.body, ours.headers, ours.read)


def ceiling_answers(given: Mapping[str, tuple[bytes, Mapping[str, str]]]) -> str:
    """Makes the bare application's file, which holds our answers by variant."""
    kept = ("content-type", "content-length", "inference-header-content-length")
    answers = {
        "/" + variant.rpartition(" ")[2]: {
            "headers": [(name, headers[name]) for name in kept if name in headers],
            "body": body.decode("latin-1"),
        }
        for variant, (body, headers) in given.items()
    }
    return json.dumps(answers)


def ask_baseline(variant: str, row: Array) -> Ask:
    """Asks with the bare row; BentoML's has the axis along which it concatenates."""
    if variant == BENTOML:
        return Ask("/predict", _dumped({"x": row}), _JSON, lambda body, _: np.array(json.loads(body)))
    path = "/inference" if variant in (MOSEC, MOSEC_2) else "/predict"
    return Ask(path, _dumped({"x": row[0]}), _JSON, lambda body, _: np.array([json.loads(body)["y"]]))


def _dumped(document: object) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _read_protocol(body: bytes, headers: Mapping[str, str]) -> Array:
    length = int(headers.get("inference-header-content-length", len(body)))
    (output,) = json.loads(body[:length])["outputs"]
    binary = "parameters" in output
    data: Array = np.frombuffer(body[length:], np.float32) if binary else np.array(output["data"])
    array: Array = data.reshape(output["shape"])
    return array
