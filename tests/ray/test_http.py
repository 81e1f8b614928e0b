"""Replicas over HTTP: the routes of the server behind Serve's proxy."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, eventually
from zoo import Zoo

import paddleinfer
from paddleinfer.ray import deployment

pytestmark = pytest.mark.ray


def ask(url: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any, Any]:
    """Status, headers, and the JSON of the answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            text = error.read()
        return error.code, error.headers, json.loads(text) if text.startswith(b"{") else text


def body_of(x: Any, **parameters: Any) -> dict[str, Any]:
    given = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return {"inputs": [given], "parameters": parameters}


def test_the_protocol_is_that_of_the_server(serve: Any, zoo: Zoo) -> None:
    made = deployment(zoo.directory("mlp"), name="mlp", http={"api_key": "secret"})
    serve.run(made.bind(), route_prefix="/models-of-us")
    url, key = f"{serve.url}/models-of-us", {"Authorization": "Bearer secret"}
    x = np.random.default_rng(1).standard_normal((3, 16), dtype=np.float32)
    with paddleinfer.Engine(zoo.directory("mlp"), instances=1) as engine:
        (alone,) = engine.infer({"x": x}).values()

    status, _, answer = ask(f"{url}/v2/models/mlp/infer", body_of(x), key)
    assert status == 200
    (output,) = answer["outputs"]
    assert np.abs(np.reshape(output["data"], output["shape"]) - alone).max() <= 1e-5
    assert ask(f"{url}/v2/health/ready")[0] == 200
    assert ask(f"{url}/v2/models/mlp", headers=key)[2]["inputs"][0]["name"] == "x"

    status, _, answer = ask(f"{url}/v2/models/mlp/infer", body_of(x))
    assert (status, answer["error"]) == (401, "an API key is required: send Authorization: Bearer KEY")
    status, _, answer = ask(f"{url}/v2/models/mlp/infer", body_of(x[:, :3]), key)
    assert status == 400 and "16" in answer["error"]
    assert ask(f"{url}/v2/models/other/infer", body_of(x), key)[0] == 404


def test_refusals_have_status_429_and_say_when_to_come_again(
    serve: Any, gated: Callable[..., Any], gate: Any
) -> None:
    handle = gated(
        {"max_ongoing_requests": 3, "max_queued_requests": 1, "backpressure_config": BACKPRESSURE},
        max_queue_rows=1,
    )
    url, x = f"{serve.url}/v2/models/gated/infer", np.ones((1, 3), np.float32)
    answers: list[tuple[int, Any, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(ask(url, body_of(x)))) for _ in range(2)]
    for queued, thread in enumerate(threads):
        thread.start()
        assert eventually(lambda queued=queued: at_gate(handle) == (1, queued))
    status, headers, answer = ask(url, body_of(x))  # the engine's refusal
    assert status == 429 and int(headers["Retry-After"]) >= 1
    assert "waiting" in answer["error"]
    gate.open()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [status for status, _, _ in answers] == [200, 200]


BACKPRESSURE = {"status_code": 429, "retry_after_s": 1.0}


def at_gate(handle: Any) -> tuple[int, int]:
    stats = handle.stats.remote().result(timeout_s=PATIENCE_S)
    return stats["running_executions"], stats["queued_requests"]
