"""What requests in JSON would cost the server with binary tensors: their shapes, through its own parser."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any, Final

import numpy as np
import orjson

from paddleinfer.model import TensorSpec

from .body import Headers
from .datatypes import DATATYPE_OF
from .infer_request import parse_request
from .infer_response import encode_response
from .models import VERSION
from .stage_log import StageLog, Tensors

__all__ = ["binary_us"]

_FEWEST, _MOST = 3, 20
# The event loop waits meanwhile.
_ENOUGH_NS: Final = 1_000_000


def binary_us(log: StageLog, specs: Sequence[TensorSpec]) -> dict[str, float]:
    """Stage -> the mean microseconds of the log's requests, if those in JSON were not. Empty: none is."""
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
    """Microseconds to decode such a request and to encode such an answer."""
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
