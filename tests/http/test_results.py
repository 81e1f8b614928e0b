"""Results that wait to be written are limited in all, and nothing is done for a client that is gone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from engine_helpers import PATIENCE_S, echo_engine, engine_of, eventually, rows
from http_helpers import ServedHere, json_tensor, serving
from raw_http import HANDLERS, answers, post, sentence

RESULT_BYTES = 4 << 20
DOCUMENT = {"inputs": [json_tensor("x", rows())], "parameters": {"binary_data_output": True}}
CLOSE = b"Connection: close\r\n"
# With its headers and the largest body that is allowed.
LEAST = {"max_body_bytes": 1 << 20, "max_buffered_bytes": 1 << 20}


class Large:
    """Gives a large result for a small row."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self.runs += 1
        return {"y": np.zeros((len(inputs["x"]), RESULT_BYTES // 4), "float32")}


def asking(handler: str) -> bytes:
    return post(HANDLERS[handler] + CLOSE, orjson.dumps(DOCUMENT))


@contextlib.contextmanager
def long_work_waits(server: ServedHere) -> Iterator[None]:
    """Whatever is too long for the loop's own thread waits meanwhile."""
    over = threading.Event()
    server.service.long_work._executor.submit(over.wait, PATIENCE_S)
    try:
        yield
    finally:
        over.set()


@pytest.mark.parametrize("handler", HANDLERS)
def test_results_that_wait_to_be_written_are_limited_in_all(handler: str) -> None:
    limit = {"max_body_bytes": 1 << 20, "max_buffered_bytes": 5 * RESULT_BYTES // 2}
    with (
        engine_of(Large(), batchable=False) as engine,
        serving(engine, **limit) as server,
        contextlib.ExitStack() as stack,
    ):
        results = server.service.inference.results
        clients = [stack.enter_context(server.connect()) for _ in range(3)]
        with long_work_waits(server):
            for number, client in enumerate(clients[:2], 1):
                client.sendall(asking(handler))
                assert eventually(lambda held=number * RESULT_BYTES: results.held == held)
            clients[2].sendall(asking(handler))
            (refused,) = answers(clients[2])
        assert refused[0] == 429
        assert sentence(refused).startswith("the results of all requests would take more than")
        for client in clients[:2]:
            ((status, body),) = answers(client)
            assert status == 200 and len(body) > RESULT_BYTES
        assert results.held == 0
        with server.connect() as later:
            later.sendall(asking(handler))
            assert answers(later)[0][0] == 200


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_result_that_is_larger_than_the_limit_is_written_alone_and_nothing_runs_meanwhile(
    handler: str,
) -> None:
    model = Large()
    with (
        engine_of(model, batchable=False) as engine,
        serving(engine, **LEAST) as server,
        server.connect() as first,
        server.connect() as second,
    ):
        with long_work_waits(server):
            first.sendall(asking(handler))
            assert eventually(lambda: server.service.inference.results.is_full)
            ran = model.runs
            second.sendall(asking(handler))
            (refused,) = answers(second)
        assert refused[0] == 429
        assert "--max-buffered-bytes" in sentence(refused)
        assert model.runs == ran
        assert answers(first)[0][0] == 200


@pytest.mark.parametrize("handler", HANDLERS)
def test_the_result_of_a_client_that_left_is_not_written(handler: str) -> None:
    with engine_of(Large(), batchable=False) as engine, serving(engine) as server, long_work_waits(server):
        inference = server.service.inference
        with server.connect() as client:
            client.sendall(asking(handler))
            assert eventually(lambda: inference.results.held == RESULT_BYTES)
        assert eventually(lambda: inference.results.held == 0)
        assert eventually(lambda: inference.under_way == 0)


def test_a_large_body_of_a_client_that_left_is_not_read() -> None:
    body = orjson.dumps({"inputs": [json_tensor("x", np.zeros((1, 100_000), "float32"))]})
    model = echo_engine(shape=(-1, -1), batchable=False)
    with model as engine, serving(engine) as server, long_work_waits(server):
        inference = server.service.inference
        with server.connect() as client:
            client.sendall(post(b"", body))
            assert eventually(lambda: inference.under_way == 1)
            assert inference.bodies.held == len(body)
        assert eventually(lambda: inference.under_way == 0)
        assert inference.bodies.held == 0
