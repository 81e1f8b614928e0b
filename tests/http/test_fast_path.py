"""The fast path of small requests, over a real socket: which ones take it, and that no client can tell."""

from __future__ import annotations

import asyncio
import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from engine_helpers import PATIENCE_S, engine_of, eventually, rows
from http_helpers import INFER, Served, json_tensor, read_response, serving, serving_services
from on_demand_helpers import ONE, SlowLoads
from zoo import Zoo

from paddleinfer.engine import memory
from paddleinfer.shim import ModelSource
from paddleinfer.shim.http.fast_path import MAX_BYTES, FastPathRequest
from paddleinfer.shim.service.versions import VersionPolicy

BODY = orjson.dumps({"inputs": [json_tensor("x", rows())]})


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[FastPathRequest]:
    """The requests that went directly."""
    requests: list[FastPathRequest] = []
    run = FastPathRequest.run

    def noted(self: FastPathRequest) -> None:
        requests.append(self)
        run(self)

    monkeypatch.setattr(FastPathRequest, "run", noted)
    return requests


@pytest.fixture
def server() -> Iterator[Served]:
    with engine_of() as engine, serving(engine) as server:
        yield server


def post(headers: bytes = b"", body: bytes = BODY, version: bytes = b"1.1") -> bytes:
    head = b"POST %b HTTP/%b\r\nHost: t\r\n%bContent-Length: %d\r\n\r\n"
    return head % (INFER.encode(), version, headers, len(body)) + body


@pytest.mark.parametrize("headers", [b"", b"Connection: keep-alive\r\n", b"Accept-Encoding: gzip\r\n"])
def test_a_small_plain_request_goes_directly(
    server: Served, begun: list[FastPathRequest], headers: bytes
) -> None:
    assert server.exchange(post(headers)).startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(begun) == 1


@pytest.mark.parametrize(
    ("headers", "body", "version"),
    [
        (b"Connection: close\r\n", BODY, b"1.1"),
        (b"Content-Encoding: gzip\r\n", gzip.compress(BODY, mtime=0), b"1.1"),
        (b"Expect: 100-continue\r\n", BODY, b"1.1"),
        (b"", BODY + b" " * MAX_BYTES, b"1.1"),
        (b"", BODY, b"1.0"),
    ],
)
def test_anything_else_goes_through_the_application(
    server: Served, begun: list[FastPathRequest], headers: bytes, body: bytes, version: bytes
) -> None:
    response = server.exchange(post(headers, body, version))
    if response.startswith(b"HTTP/1.1 100"):
        response = response.partition(b"\r\n\r\n")[2]
    assert response.startswith(b"HTTP/1.1 200 OK\r\n") or b"expect" in headers.lower()
    assert begun == []


def test_a_request_without_the_key_is_refused_and_one_with_it_goes_directly(
    begun: list[FastPathRequest],
) -> None:
    with engine_of() as engine, serving(engine, api_key="secret") as server:
        assert server.exchange(post()).startswith(b"HTTP/1.1 401 ")
        assert begun == []
        assert server.exchange(post(b"Authorization: Bearer secret\r\n")).startswith(b"HTTP/1.1 200 ")
        assert len(begun) == 1


def test_one_connection_takes_both_ways_in_turn(server: Served, begun: list[FastPathRequest]) -> None:
    with server.connect() as connection:
        for _ in range(3):
            for headers in (b"", b"Content-Encoding: identity\r\n"):
                connection.sendall(post(headers))
                assert b"200 OK" in read_response(connection)
    assert len(begun) == 3


def test_both_ways_count_how_long_a_request_took(server: Served, begun: list[FastPathRequest]) -> None:
    for headers in (b"", b"Content-Encoding: identity\r\n", b"Accept-Encoding: gzip\r\n"):
        assert b"200 OK" in server.exchange(post(headers))
    assert b"400 Bad Request" in server.exchange(post(b"", b"{"))
    assert len(begun) == 3
    answer = server.exchange(b"GET /v2/live HTTP/1.1\r\nHost: t\r\n\r\n").partition(b"\r\n\r\n")[2]
    latency = orjson.loads(answer)["models"][0]["latency"]
    assert latency["count"] == 3 and 0 < latency["p50_us"] < PATIENCE_S * 1e6


def test_a_long_answer_is_compressed_for_those_who_understand_it(begun: list[FastPathRequest]) -> None:
    body = orjson.dumps({"inputs": [json_tensor("x", np.zeros((500, 3), np.float32))]})
    with engine_of() as engine, serving(engine) as server:
        head, _, packed = server.exchange(post(b"Accept-Encoding: gzip\r\n", body)).partition(b"\r\n\r\n")
        _, _, plain = server.exchange(post(b"", body)).partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head
    assert gzip.decompress(packed) == plain
    assert len(begun) == 2


def test_an_error_is_the_same_as_through_the_application(
    server: Served, begun: list[FastPathRequest]
) -> None:
    wrong = b'{"inputs": 3}'
    answers = [server.exchange(post(headers, wrong)) for headers in (b"", b"Content-Encoding: identity\r\n")]
    directly, through = (answer.partition(b"\r\n\r\n")[2] for answer in answers)
    assert directly == through
    assert answers[0].startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert len(begun) == 1


def test_a_failure_of_the_model_is_answered(begun: list[FastPathRequest]) -> None:
    def fail(_: object) -> None:
        raise ValueError("no")

    with engine_of(fail) as engine, serving(engine) as server:
        assert server.exchange(post()).startswith(b"HTTP/1.1 500 ")
    assert len(begun) == 1


def test_a_client_that_leaves_between_headers_and_body_leaves_nothing_under_way(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[FastPathRequest] = []
    leave = FastPathRequest._leave

    def noted(self: FastPathRequest) -> None:
        made.append(self)
        leave(self)

    monkeypatch.setattr(FastPathRequest, "_leave", noted)
    with server.connect() as connection:
        connection.sendall(post()[:-10])
    assert eventually(lambda: bool(made), PATIENCE_S)
    assert made[0]._inference.under_way == 0


def test_an_idle_connection_is_closed(begun: list[FastPathRequest]) -> None:
    """On the real clock: uvicorn's five seconds."""
    with engine_of() as engine, serving(engine) as server, server.connect() as connection:
        connection.sendall(post())
        read_response(connection)
        assert connection.recv(1) == b""
    assert len(begun) == 1


# Versions, and models that are not loaded


def ask(path: str) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n"
    return head % (f"/v2/models/{path}/infer".encode(), len(BODY)) + BODY


def answered(response: bytes) -> tuple[float, str]:
    """The value of the first output, and the version that the answer names."""
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK"), response
    document = orjson.loads(body)
    return document["outputs"][0]["data"][0], document["model_version"]


@pytest.fixture
def versions(zoo: Zoo, tmp_path: Path) -> Path:
    for version in (1, 2):
        shutil.copytree(zoo.directory(f"weight-{version}", zoo.formats[0]), tmp_path / str(version))
    return tmp_path


def served(versions: Path, policy: str) -> dict[str, Any]:
    return {"m": ModelSource(versions, ONE, VersionPolicy.of(policy))}


def test_a_request_for_one_version_goes_directly(versions: Path, begun: list[FastPathRequest]) -> None:
    with serving_services(served(versions, "all"), {}) as server:
        asked = ["m", "m/versions/1", "m/versions/2"]
        with server.connect() as connection:  # also where the head is that of the request before
            answers = []
            for path in asked + asked + ["m/versions/1", "m/versions/1"]:
                connection.sendall(ask(path))
                answers.append(answered(read_response(connection)))
        assert answers == 2 * [(2, "2"), (1, "1"), (2, "2")] + 2 * [(1, "1")]
        assert len(begun) == 8
        assert server.exchange(ask("m/versions/3")).startswith(b"HTTP/1.1 404 ")
        assert len(begun) == 8


def test_a_request_whose_version_is_dropped_before_its_body_has_come_gets_the_new_one(
    versions: Path, begun: list[FastPathRequest]
) -> None:
    with serving_services(served(versions, "all"), {}) as server, server.connect() as connection:
        whole = ask("m")
        connection.sendall(whole[:-10])
        models = server.service.models
        assert eventually(lambda: any(one.cycle is not None for one in server.connections()))
        loop = models.loop
        assert loop is not None
        asyncio.run_coroutine_threadsafe(models.drop(models.get("m", "2")), loop).result(PATIENCE_S)
        connection.sendall(whole[-10:])
        assert answered(read_response(connection)) == (1, "1")
        assert len(begun) == 1


def test_a_request_for_a_model_that_is_not_loaded_waits_for_it_directly(
    versions: Path, begun: list[FastPathRequest]
) -> None:
    size = memory.estimate(versions / "1", ONE)[1]
    with serving_services(served(versions, "all"), {}, max_loaded_bytes=size) as server:
        asked = ["m/versions/1", "m/versions/2", "m/versions/1"]
        assert [answered(server.exchange(ask(path)))[0] for path in asked] == [1, 2, 1]
        assert len(begun) == 3
        models = list(server.service.models)
        assert eventually(lambda: [model.in_use for model in models] == [0, 0])


def test_a_client_that_leaves_while_its_model_is_loaded_holds_nothing(
    versions: Path, begun: list[FastPathRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = memory.estimate(versions / "1", ONE)[1]
    with serving_services(served(versions, "all"), {}, max_loaded_bytes=size) as server:
        assert eventually(lambda: server.service.models.ready)
        loads = SlowLoads(monkeypatch)
        model = server.service.models.get("m", "2")
        with server.connect() as connection:
            connection.sendall(ask("m/versions/2"))
            assert eventually(lambda: model.awaited == 1 and loads.begun == ["2"])
        assert eventually(lambda: model.awaited == 0)
        loads.may_end.set()
        assert eventually(lambda: model.is_loaded)
        assert model.in_use == 0
        assert len(begun) == 1
