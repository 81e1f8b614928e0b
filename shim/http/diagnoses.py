"""Diagnoses served models, the costs of the server itself included."""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Callable, Sequence
from http import HTTPStatus
from time import monotonic, perf_counter_ns
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import orjson

from paddleinfer.engine.engine import Engine
from paddleinfer.models.reader import TensorSpec

from ..protocol.body import Headers
from ..protocol.datatypes import DATATYPE_OF
from ..protocol.errors import RequestError
from ..protocol.request import parse_request
from ..protocol.response import encode_response
from ..service.long_work import LongWork
from ..service.served_models import VERSION, ServedModel
from ..service.stage_log import StageLog, Tensors

__all__ = ["Diagnoses", "binary_us"]

_KEPT_FOR_S: Final = 1.0

# The most calls, and the most time, with which the cost of binary tensors is measured.
_FEWEST, _MOST = 3, 20
_ENOUGH_NS: Final = 1_000_000


class Diagnoses:
    """Diagnoses the models' requests, each model at most once a second, however many clients ask."""

    def __init__(self, long_work: LongWork, clock: Callable[[], float] = monotonic) -> None:
        self._long_work = long_work
        self._clock = clock
        # An engine that is unloaded or replaced takes its diagnosis along.
        self._kept: WeakKeyDictionary[Engine, tuple[float, asyncio.Task[bytes]]] = WeakKeyDictionary()

    async def of(self, model: ServedModel) -> bytes:
        """Returns a diagnosis as JSON, at most a second old."""
        if model.is_service:
            where = f"GET /services/{model.name}/diagnosis"
            raise RequestError(
                HTTPStatus.NOT_FOUND, f"{model.name!r} is a service: {where} says what binds it"
            )
        engine, now = model.open_engine(), self._clock()
        kept = self._kept.get(engine)
        if kept is None or (kept[1].done() and now - kept[0] >= _KEPT_FOR_S):
            task = asyncio.ensure_future(
                self._long_work.run(None, _diagnosis, model, engine, model.stage_log.copy())
            )
            kept = self._kept[engine] = now, task
        return await asyncio.shield(kept[1])


def _diagnosis(model: ServedModel, engine: Engine, log: StageLog) -> bytes:
    """Diagnoses with the server's part."""
    found = engine.diagnose(log.outer_us(), binary_us(log, engine.inputs))
    return orjson.dumps({"model": model.label, **found.as_dict()}, option=orjson.OPT_NON_STR_KEYS)


def binary_us(log: StageLog, specs: Sequence[TensorSpec]) -> dict[str, float]:
    """Returns stage -> mean microseconds of the log's requests if all had been binary; empty if all were."""
    recent = log.recent()
    in_json = sum(times.json for times in recent)
    if not in_json or not log.inputs:
        return {}
    decode_us, encode_us = _measured(log.inputs, log.outputs, specs)
    decoded = sum((t.decoded_ns - t.received_ns) / 1e3 for t in recent if not t.json)
    encoded = sum((t.encoded_ns - t.delivered_ns) / 1e3 for t in recent if not t.json)
    return {
        "decode": (decoded + in_json * decode_us) / len(recent),
        "encode": (encoded + in_json * encode_us) / len(recent),
    }


def _measured(inputs: Tensors, outputs: Tensors, specs: Sequence[TensorSpec]) -> tuple[float, float]:
    """Measures the microseconds to decode such a request and to encode such an answer."""
    body, headers = _request_of(inputs)
    request = parse_request(body, headers, specs)
    results = {name: np.zeros(shape, dtype) for name, dtype, shape in outputs}
    return (
        _usual_us(lambda: parse_request(body, headers, specs)),
        _usual_us(lambda: encode_response("", VERSION, request, results)),
    )


def _request_of(inputs: Tensors) -> tuple[bytes, Headers]:
    sizes = [math.prod(shape) * dtype.itemsize for _, dtype, shape in inputs]
    tensors = [
        {
            "name": name,
            "shape": shape,
            "datatype": DATATYPE_OF[dtype],
            "parameters": {"binary_data_size": size},
        }
        for (name, dtype, shape), size in zip(inputs, sizes, strict=True)
    ]
    document = orjson.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}})
    return document + bytes(sum(sizes)), {b"inference-header-content-length": b"%d" % len(document)}


def _usual_us(call: Callable[[], Any]) -> float:
    taken: list[int] = []
    while len(taken) < _FEWEST or (len(taken) < _MOST and sum(taken) < _ENOUGH_NS):
        begin = perf_counter_ns()
        call()
        taken.append(perf_counter_ns() - begin)
    return statistics.median(taken) / 1e3
