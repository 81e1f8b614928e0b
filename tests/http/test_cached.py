"""Answers out of the cache of results, over every way of the server."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from engine_helpers import Arrays, double, engine_of, rows
from http_helpers import INFER, binary_body, binary_tensor, client_of, json_tensor, outputs_of, serving

from paddleinfer import Engine


class Counting:
    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, inputs: Arrays) -> Arrays:
        self.runs += 1
        return double(inputs)


def cached(model: Counting) -> Engine:
    return engine_of(model, cache_bytes=1 << 20, batchable=True)


def test_json_and_binary_requests_of_one_content_share_a_result() -> None:
    model = Counting()
    with cached(model) as engine, client_of(engine) as client:
        document: dict[str, Any] = {"inputs": [binary_tensor("x", rows(2))]}
        body, headers = binary_body(document, rows(2))
        answers = [client.post(INFER, json={"inputs": [json_tensor("x", rows(2))]}) for _ in range(2)]
        answers += [client.post(INFER, content=body, headers=headers) for _ in range(2)]
        for answer in answers:
            np.testing.assert_array_equal(outputs_of(answer)["y"], rows(2, value=2))
        assert model.runs == 1


def test_small_requests_that_go_directly_are_answered_out_of_the_cache() -> None:
    model = Counting()
    body = orjson.dumps({"inputs": [json_tensor("x", rows())]})
    head = b"POST %b HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % (INFER.encode(), len(body))
    with cached(model) as engine, serving(engine) as server:
        first, second = server.exchange(head + body), server.exchange(head + body)
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert first.partition(b"\r\n\r\n")[2] == second.partition(b"\r\n\r\n")[2]
        assert model.runs == 1


def test_statistics_and_metrics_count_the_answers() -> None:
    with cached(Counting()) as engine, client_of(engine) as client:
        for _ in range(3):
            client.post(INFER, json={"inputs": [json_tensor("x", rows())]})
        (stats,) = client.get("/v2/models/m/stats").json()["model_stats"]
        assert stats["execution_count"] == 1
        counts = {name: duration["count"] for name, duration in stats["inference_stats"].items()}
        assert (counts["success"], counts["queue"], counts["cache_hit"], counts["cache_miss"]) == (3, 1, 2, 1)
        assert stats["inference_stats"]["cache_hit"]["ns"] > 0
        metrics = client.get("/metrics").text
        assert 'paddleinfer_cache_hits_total{model="m"} 2.0' in metrics
        assert client.get("/v2/models/m/config").json()["response_cache"] == {"enable": True}


def test_a_model_without_a_cache_does_not_say_that_it_has_one() -> None:
    with engine_of() as engine, client_of(engine) as client:
        assert "response_cache" not in client.get("/v2/models/m/config").json()
