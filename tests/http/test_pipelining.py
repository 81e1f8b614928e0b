"""Pipelined requests on one connection: all good ones are answered, in order."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterator

import orjson
import pytest
from engine_helpers import Gate, engine_of, eventually, rows
from http_helpers import Served, json_tensor, serving
from raw_http import BODY, HANDLERS, answers, get, post, sentence

BAD = {
    "no HTTP": (b"NONSENSE\r\n\r\n", 400),
    "no Host": (post(host=b""), 400),
    "a bad chunk": (post().replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: chunked"), 400),
    "too many headers": (post(b"X: y\r\n" * 500), 431),
}


@pytest.fixture
def server() -> Iterator[Served]:
    with engine_of() as engine, serving(engine) as server:
        yield server


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("count", [0, 1, 5, 300])
def test_good_requests_before_a_bad_one_are_answered(
    server: Served, handler: str, what: str, count: int
) -> None:
    bad, status = BAD[what]
    with server.connect() as connection:
        connection.sendall(count * post(HANDLERS[handler]) + bad + post())
        *good, refused = answers(connection)
    assert [status for status, _ in good] == count * [200]
    assert refused[0] == status
    assert sentence(refused)


def test_good_requests_before_a_bad_one_are_answered_also_where_the_first_takes_long() -> None:
    gate = Gate()
    with engine_of(gate) as engine, serving(engine) as server, server.connect() as connection:
        connection.sendall(post() + post(HANDLERS["application"]) + BAD["no HTTP"][0])
        gate.wait_entered()
        gate.open()
        assert [status for status, _ in answers(connection)] == [200, 200, 400]


def test_a_request_after_the_last_of_a_connection_does_not_run() -> None:
    ran: list[float] = []
    with engine_of(ran_into(ran)) as engine, serving(engine) as server:
        for headers in HANDLERS.values():
            with server.connect() as connection:
                connection.sendall(
                    post(headers) + post(headers + b"Connection: close\r\n") + 3 * post(headers)
                )
                assert [status for status, _ in answers(connection)] == [200, 200]
    assert len(ran) == 4


def ran_into(ran: list[float]):  # type: ignore[no-untyped-def]
    def model(inputs):  # type: ignore[no-untyped-def]
        ran.extend(inputs["x"][:, 0].tolist())
        return {"y": inputs["x"]}

    return model


@pytest.mark.parametrize("handlers", [("fast path",), ("application",), tuple(HANDLERS)])
def test_a_client_that_pipelines_and_leaves_has_its_requests_cancelled_and_costs_no_traceback(
    handlers: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    gate = Gate()
    with engine_of(gate, max_batch_size=1) as engine, serving(engine, max_inflight=100) as server:
        busy = engine.submit({"x": rows(value=7)})
        gate.wait_entered()
        requests = b"".join(post(HANDLERS[handler]) for handler in handlers)
        for count in (1, 2, 3, 200, 100_000 // len(requests)):  # of the last ones not all are read
            with server.connect() as leaving:
                leaving.sendall(count * requests)
                assert eventually(lambda: engine.stats()["queued_requests"] == 1)
            assert eventually(lambda: engine.stats()["queued_requests"] == 0)
        gate.open()
        busy.result()
        assert gate.ran == [7]
    assert caplog.records == []


def test_clients_that_pipeline_and_leave_at_any_time_cost_no_traceback(
    server: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    requests = b"".join(post(headers) for headers in HANDLERS.values()) + get("/metrics") + BAD["no HTTP"][0]
    for length in range(0, len(requests), 7):
        with server.connect() as leaving:
            leaving.sendall(3 * requests[:length])
    with server.connect() as connection:
        connection.sendall(post(b"Connection: close\r\n"))
        assert answers(connection)[0][0] == 200
    assert caplog.records == []


def test_what_waits_for_its_turn_is_not_taken_apart_before() -> None:
    """A request taken apart is a hundred times as large as its bytes."""
    gate = Gate()
    request = get("/")[:-2] + b"\r\n"
    with engine_of(gate) as engine, serving(engine) as server, server.connect() as connection:
        tracemalloc.start()
        try:
            connection.sendall(post())
            gate.wait_entered()
            before, _ = tracemalloc.get_traced_memory()
            connection.sendall(request * (200_000 // len(request)))
            with server.connect() as other:
                other.sendall(get("/v2/health/live", b"Connection: close\r\n"))
                assert answers(other)[0][0] == 200
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak - before < 4 * 200_000 + (1 << 20)
        gate.open()


def test_answers_come_in_order_from_both_handlers(server: Served) -> None:
    bodies = [orjson.dumps({"id": str(turn), "inputs": [json_tensor("x", rows())]}) for turn in range(200)]
    headers = list(HANDLERS.values())
    with server.connect() as connection:
        connection.sendall(b"".join(post(headers[turn % 2], body) for turn, body in enumerate(bodies)))
        connection.sendall(get("/v2", b"Connection: close\r\n"))
        *found, _ = answers(connection)
    assert [orjson.loads(body)["id"] for _, body in found] == [str(turn) for turn in range(200)]
