"""What the server's page is made of, and the numbers that it asks for."""

from __future__ import annotations

import base64
import hashlib
import re
from itertools import pairwise
from typing import Any

import pytest
from engine_helpers import engine_of, gated, rows
from starlette.testclient import TestClient

from paddleinfer.shim import ServiceOptions, create_app
from paddleinfer.shim.service.latencies import Latencies


def refuses_negative(inputs: dict[str, Any]) -> dict[str, Any]:
    if (inputs["x"] < 0).any():
        raise ValueError("negative")
    return {"y": inputs["x"]}


def test_the_page_runs_its_own_script_and_style_and_fetches_nothing_from_elsewhere() -> None:
    with engine_of() as engine, TestClient(create_app({"m": engine})) as client:
        response = client.get("/")
    policy = dict(part.split(" ", 1) for part in response.headers["content-security-policy"].split("; "))
    for element in ("script", "style"):
        (text,) = re.findall(f"<{element}>(.*?)</{element}>", response.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[f"{element}-src"] == f"'sha256-{digest}'"
    assert (policy["default-src"], policy["connect-src"]) == ("'none'", "'self'")
    assert "'none'" == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"]
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.findall(r'(?:src|href)="(?!data:|openapi\.json|metrics)', response.text)
    assert "innerHTML" not in response.text and " style=" not in response.text


def test_the_page_needs_no_key_and_holds_nothing_of_the_server() -> None:
    with engine_of() as engine:
        pages = []
        for key in (None, "s3cret"):
            with TestClient(create_app({"m": engine}, ServiceOptions(api_key=key))) as client:
                response = client.get("/")
                assert response.status_code == 200
                pages.append(response.text)
    assert pages[0] == pages[1]


INPUT = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}


def test_the_page_is_told_what_each_model_counted() -> None:
    with engine_of(refuses_negative) as engine, TestClient(create_app({"m": engine})) as client:
        (before,) = client.get("/v2/live").json()["models"]
        for _ in range(3):
            assert client.post("/v2/models/m/infer", json={"inputs": [INPUT]}).status_code == 200
        negative = {"inputs": [{**INPUT, "data": [-1] * 6}]}
        assert client.post("/v2/models/m/infer", json=negative).status_code == 500
        answer = client.get("/v2/live").json()
    (counted,) = answer["models"]
    assert answer["seconds"] > 0
    assert before["latency"] == {"count": 0, "p50_us": None, "p90_us": None, "p99_us": None, "buckets": []}
    assert (before["results"], before["failed"], before["batch_rows"]) == (0, 0, {})
    assert (counted["name"], counted["results"], counted["failed"], counted["started"]) == ("m", 3, 1, 4)
    assert (counted["queued_requests"], counted["queued_rows"]) == (0, 0)
    assert counted["batch_rows"]["2"] >= 3 and counted["rows"] >= 6
    latency = counted["latency"]
    assert latency["count"] == 3 == sum(count for _, _, count in latency["buckets"])
    assert 0 < latency["p50_us"] <= latency["p90_us"] <= latency["p99_us"] <= latency["buckets"][-1][1]


def test_the_numbers_of_the_page_want_the_key() -> None:
    with engine_of() as engine, TestClient(create_app({"m": engine}, ServiceOptions(api_key="s"))) as client:
        assert client.get("/v2/live").status_code == 401
        assert client.get("/v2/live", headers={"Authorization": "Bearer s"}).status_code == 200


def test_a_request_that_waits_is_counted_in_the_queue() -> None:
    with gated() as (engine, gate), TestClient(create_app({"m": engine})) as client:
        futures = [engine.submit({"x": rows(2)}) for _ in range(3)]
        (counted,) = client.get("/v2/live").json()["models"]
        assert (counted["queued_requests"], counted["queued_rows"]) == (3, 6)
        assert (counted["instances"], counted["instances_busy"]) == (1, 1)
        gate.open()
        for future in futures:
            future.result()


def test_percentiles_are_at_most_a_bucket_off() -> None:
    latencies = Latencies()
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    for seconds in (0, 1e-7, 1e6):
        latencies.add(seconds)
    counted = latencies.as_dict()
    assert counted["count"] == 1003
    for percent in (50, 90, 99):
        assert counted[f"p{percent}_us"] == pytest.approx(percent * 10_000, rel=0.05)
    for (_, high, _), (low, _, _) in pairwise(counted["buckets"][1:-1]):
        assert high <= low * 1.001
