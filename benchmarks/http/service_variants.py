"""Defines the variants of bench_services_http: the command of each server, its request, and how to read it.

All run the functions of `apps/functions.py` around the same model.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.http.envs import python_of
from benchmarks.http.load import Array, Ask
from benchmarks.http.variants import Ports, Start

PLAIN = "paddleinfer-http, a service of plain functions"
COROUTINES = "paddleinfer-http, a service of coroutines"
FASTAPI = "FastAPI, a lock in its thread pool"
FASTAPI_ENGINE = "FastAPI, await engine.ainfer"
LITSERVE, BENTOML = "LitServe", "BentoML"
PEERS = (FASTAPI, LITSERVE, BENTOML)
"""What a service is compared with; the other variants are for information."""

_JSON = {"Content-Type": "application/json"}
_APPS = "benchmarks.http.apps"


@dataclass(frozen=True)
class Variant:
    """A server, and its request of one row."""

    start: Start
    ask: Callable[[Array], Ask]


def _ours(kind: str) -> Start:
    def command(ports: Ports, model: Path) -> list[str]:
        start = [sys.executable, "-m", "paddleinfer.shim", "--host", "127.0.0.1", "--port", str(ports.http)]
        return [*start, "--model", f"m={model}", "--service", f"labels={_APPS}.service_app:{kind}"]

    return Start(command)


def _in_environment(name: str, app: str, environment: Mapping[str, str] | None = None) -> Start:
    return Start(lambda ports, model: [str(python_of(name)), "-m", f"{_APPS}.{app}"], environment or {})


def _bentoml(ports: Ports, model: Path) -> list[str]:
    serve = ["-m", "bentoml", "serve", f"{_APPS}.bentoml_functions_app:Labels"]
    return [str(python_of("bentoml")), *serve, "--host", "127.0.0.1", "--port", str(ports.http)]


def _asks(path: str) -> Callable[[Array], Ask]:
    return lambda row: Ask(path, _document(row), _JSON, lambda body, _: _scores(json.loads(body)))


def _ask_bentoml(row: Array) -> Ask:
    body = b'{"documents": [%b]}' % _document(row)
    return Ask("/predict", body, _JSON, lambda body, _: _scores(json.loads(body)[0]))


def _document(row: Array) -> bytes:
    return orjson.dumps({"x": row[0]}, option=orjson.OPT_SERIALIZE_NUMPY)


def _scores(answer: Mapping[str, Any]) -> Array:
    scores: Array = np.array([answer["scores"]])
    if answer["label"] != scores.argmax():
        raise OSError(f"the label is {answer['label']}, which is not that of the largest score")
    return scores


VARIANTS = {
    PLAIN: Variant(_ours("Plain"), _asks("/services/labels")),
    COROUTINES: Variant(_ours("Coroutines"), _asks("/services/labels")),
    FASTAPI: Variant(_in_environment("fastapi", "fastapi_app", {"BENCH_KIND": "locked"}), _asks("/predict")),
    FASTAPI_ENGINE: Variant(
        _in_environment("fastapi", "fastapi_app", {"BENCH_KIND": "engine"}), _asks("/predict")
    ),
    LITSERVE: Variant(_in_environment("litserve", "litserve_functions_app"), _asks("/predict")),
    BENTOML: Variant(Start(_bentoml, {"BENTOML_DO_NOT_TRACK": "True"}), _ask_bentoml),
}
