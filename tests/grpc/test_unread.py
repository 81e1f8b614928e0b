"""Answers that their clients do not read: how much waits, for how long, and that nothing of it is kept."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Arrays, engine_of, eventually, rows
from grpc_helpers import ModelInferRequest, Served, failure, raw, serving
from grpc_outsider import SERVICE
from http2_frames import (
    DATA,
    DEAF_OPENING,
    END_HEADERS,
    HEADERS,
    RST_STREAM,
    frame,
    frames,
    headers,
    prefixed,
    whole_call,
)

from paddleinfer.shim.grpc.transfers import Patience, Unsent
from paddleinfer.shim.protocol.errors import RequestError

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
ANSWER_BYTES = 2 << 20
FOUR_ANSWERS = {"max_body_bytes": ANSWER_BYTES, "max_buffered_bytes": 4 * ANSWER_BYTES}
ASKS = ModelInferRequest(**raw(x=rows())).SerializeToString()


def large(inputs: Arrays) -> Arrays:
    return {"y": np.zeros((len(inputs["x"]), ANSWER_BYTES // 4), "float32")}


@contextlib.contextmanager
def serving_large(**options: Any) -> Iterator[Served]:
    # However long the machine stands still.
    patient = {"write_timeout": 10 * PATIENCE_S, "request_timeout": 10 * PATIENCE_S}
    with engine_of(large) as engine, serving(engine, **{**patient, **options}) as server:
        yield server


@contextlib.contextmanager
def deaf(server: Served) -> Iterator[socket.socket]:
    """A connection whose client has no room for answers."""
    host, _, port = server.server.addresses[0].rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as connection:
        connection.sendall(DEAF_OPENING)
        yield connection


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def calls_in_memory() -> int:
    return sum(type(thing).__name__ == "RPCState" for thing in gc.get_objects())


def under_way(server: Served) -> int:
    return server.service.inference.under_way


def test_an_answer_that_nobody_reads_is_cut_and_freed_without_a_collection() -> None:
    with (
        serving_large(write_timeout=0.5, request_timeout=3) as server,
        deaf(server) as connection,
        without_collections(),
    ):
        _call_twice(server)
        before = calls_in_memory()
        connection.sendall(b"".join(whole_call(stream, ASKS) for stream in (1, 3, 5)))
        assert eventually(lambda: server.service.models.get("m").latencies.as_dict()["count"] == 3)
        assert eventually(lambda: under_way(server) == 0)
        _call_twice(server)
        ended = {stream for kind, stream in _until(connection, RST_STREAM, 3)}
        assert ended == {1, 3, 5}
        assert eventually(lambda: calls_in_memory() <= before)


def _call_twice(server: Served) -> None:
    """grpc.aio keeps its first call, and its last until another comes."""
    for _ in range(2):
        with contextlib.suppress(grpc.RpcError):
            server.call("ServerLive")


def _until(connection: socket.socket, wanted: int, count: int) -> list[tuple[int, int]]:
    found = []
    for kind, stream in frames(connection):
        if kind == wanted:
            found.append((kind, stream))
            if len(found) == count:
                break
    return found


def test_answers_beyond_the_limit_of_bytes_are_refused_until_the_unread_give_way() -> None:
    with (
        serving_large(**FOUR_ANSWERS) as server,
        deaf(server) as connection,
    ):
        connection.sendall(b"".join(whole_call(stream, ASKS) for stream in range(1, 41, 2)))
        assert eventually(lambda: server.service.inference.under_way == 3)  # a little more than 2 MiB each
        # What has not been read for a second makes room.
        assert eventually(lambda: _is_answered(server), PATIENCE_S)
        assert eventually(lambda: under_way(server) <= 3)


def _is_answered(server: Served) -> bool:
    try:
        server.infer(**raw(x=rows()))
    except grpc.RpcError as error:
        assert error.code() is EXHAUSTED
        return False
    return True


def test_a_request_counts_as_under_way_until_its_answer_has_left() -> None:
    with serving_large(max_inflight=2) as server, deaf(server) as connection:
        connection.sendall(whole_call(1, ASKS) + whole_call(3, ASKS))
        assert eventually(lambda: under_way(server) == 2)
        assert eventually(lambda: server.service.models.get("m").latencies.as_dict()["count"] == 2)
        code, sentence = failure(lambda: server.infer(**raw(x=rows())))
        assert code is EXHAUSTED and "--max-inflight" in sentence
        connection.sendall(frame(RST_STREAM, 0, 1, bytes(4)))
        assert eventually(lambda: under_way(server) == 1)
        server.infer(**raw(x=rows()))


def test_requests_of_a_stream_count_until_their_answers_have_left() -> None:
    with serving_large(max_inflight=2) as server, deaf(server) as connection:
        opened = frame(HEADERS, END_HEADERS, 1, headers(f"/{SERVICE}/ModelStreamInfer"))
        connection.sendall(opened + 2 * frame(DATA, 0, 1, prefixed(ASKS)))
        assert eventually(lambda: server.service.models.get("m").latencies.as_dict()["count"] == 2)
        code, _ = failure(lambda: server.infer(**raw(x=rows())))
        assert code is EXHAUSTED
        connection.sendall(frame(RST_STREAM, 0, 1, bytes(4)))
        assert eventually(lambda: under_way(server) == 0)
        server.infer(**raw(x=rows()))


def test_a_stream_that_is_not_read_is_cut_and_its_requests_are_over() -> None:
    with (
        serving_large(
            write_timeout=0.5,
            request_timeout=3,
            max_body_bytes=ANSWER_BYTES,
            max_buffered_bytes=4 * ANSWER_BYTES,
        ) as server,
        deaf(server) as connection,
        without_collections(),
    ):
        _call_twice(server)
        opened = frame(HEADERS, END_HEADERS, 1, headers(f"/{SERVICE}/ModelStreamInfer"))
        connection.sendall(opened + 20 * frame(DATA, 0, 1, prefixed(ASKS)))
        assert eventually(lambda: server.service.models.get("m").latencies.as_dict()["count"] >= 1)
        assert eventually(lambda: under_way(server) == 0)
        _call_twice(server)
        assert _until(connection, RST_STREAM, 1) == [(RST_STREAM, 1)]


def test_a_stream_is_not_read_on_while_much_of_it_waits() -> None:
    with serving_large() as server, deaf(server) as connection:
        opened = frame(HEADERS, END_HEADERS, 1, headers(f"/{SERVICE}/ModelStreamInfer"))
        connection.sendall(opened)
        latencies = server.service.models.get("m").latencies
        for number in range(1, 10):  # 18 MiB
            connection.sendall(frame(DATA, 0, 1, prefixed(ASKS)))
            assert eventually(lambda number=number: latencies.as_dict()["count"] == number)
        connection.sendall(20 * frame(DATA, 0, 1, prefixed(ASKS)))
        server.infer(**raw(x=rows()))  # after which those would have been read
        assert under_way(server) <= 10
        assert latencies.as_dict()["count"] <= 11


@contextlib.contextmanager
def long_work_waits(server: Served) -> Iterator[None]:
    """Whatever is too long for the loop's own thread waits meanwhile."""
    over = threading.Event()
    server.service.long_work._executor.submit(over.wait, PATIENCE_S)
    try:
        yield
    finally:
        over.set()


def test_results_that_wait_to_be_written_are_limited_in_all() -> None:
    with serving_large(**FOUR_ANSWERS) as server, deaf(server) as connection, long_work_waits(server):
        results, many = server.service.inference.results, 150
        connection.sendall(b"".join(whole_call(2 * number + 1, ASKS) for number in range(many)))
        refused = {stream for kind, stream in _until(connection, HEADERS, many - 4)}
        assert results.held == 4 * ANSWER_BYTES
        assert len(refused) == many - 4
        code, sentence = failure(lambda: server.infer(**raw(x=rows())))
        assert code is EXHAUSTED and "the results of all requests would take more than" in sentence
    assert results.held == 0


def test_messages_that_wait_to_be_read_are_limited_in_all() -> None:
    many = np.zeros((ANSWER_BYTES // 12, 3), "float32")
    asks = raw(x=many)
    limits = {"max_body_bytes": 2 * ANSWER_BYTES, "max_buffered_bytes": 4 * ANSWER_BYTES}
    with engine_of(max_queue_rows=1 << 20) as engine, serving(engine, **limits) as server:
        bodies = server.service.inference.bodies
        with long_work_waits(server):
            waiting = []
            for number in range(1, 4):
                waiting.append(server.begin(**asks))
                assert eventually(lambda least=number * ANSWER_BYTES: bodies.held > least)
            code, sentence = failure(lambda: server.infer(**asks))
            assert code is EXHAUSTED and "the bodies of all requests would take more than" in sentence
            server.infer(**raw(x=rows()))  # what is small does not count
        for call in waiting:
            call.result(PATIENCE_S)
        assert bodies.held == 0
        server.infer(**asks)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_what_has_waited_for_longest_gives_way_and_what_is_new_does_not() -> None:
    async def run() -> None:
        clock = Clock()
        unsent = Unsent(100, Patience(PATIENCE_S, 1, PATIENCE_S), clock)
        first, second, third = (asyncio.create_task(asyncio.sleep(PATIENCE_S)) for _ in range(3))
        for task in (first, second):
            unsent.add(task, 50)
            unsent.write(task)
            clock.now_s += 1.0
        with pytest.raises(RequestError, match="--max-buffered-bytes allows 100"):
            unsent.add(third, 60)  # which would take both, of which the second is new
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert unsent.total_bytes == 50 and first.cancelled() and not second.cancelled()
        unsent.add(third, 50)
        assert unsent.total_bytes == 100
        for task in (second, third):
            task.cancel()

    asyncio.run(run())


def test_an_answer_is_given_time_by_its_size_within_a_limit() -> None:
    patience = Patience(30.0, 500, 300.0)
    assert patience.seconds(0) == 30.0
    assert patience.seconds(5000) == 40.0
    assert patience.seconds(1 << 30) == 300.0
    assert Patience(30.0, 500, 10.0).seconds(1 << 30) == 30.0


def test_an_answer_larger_than_the_limit_is_sent_where_none_waits() -> None:
    async def run() -> None:
        unsent = Unsent(100, Patience(PATIENCE_S, 1, PATIENCE_S))
        task = asyncio.current_task()
        assert task is not None
        unsent.add(task, 1000)
        assert unsent.of(task) == 1000
        unsent.discard(task)
        assert unsent.total_bytes == 0

    asyncio.run(run())


def test_a_stream_is_given_time_only_while_it_waits_for_its_client() -> None:
    async def run() -> None:
        clock = Clock()
        unsent = Unsent(100, Patience(PATIENCE_S, 1, PATIENCE_S), clock)
        task = asyncio.current_task()
        assert task is not None
        unsent.add(task, 80)
        clock.now_s = 1000.0  # the model took its time for the request before it
        with pytest.raises(RequestError):
            unsent.add(task, 80)
        assert unsent.of(task) == 80
        unsent.discard(task)

    asyncio.run(run())
