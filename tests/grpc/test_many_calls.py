"""Thousands of calls at once over one connection: each is answered, or cancelled before it runs."""

from __future__ import annotations

import grpc
import numpy as np
from engine_helpers import PATIENCE_S, engine_of, eventually, gated, rows
from grpc_helpers import Client, Served, outputs_of, raw, serving

CALLS = 1000


def begin(server: Served, count: int) -> list[grpc.Future]:
    """Calls for a row each, of its number."""
    return [server.begin(**raw(x=rows(value=number))) for number in range(count)]


def test_of_a_thousand_calls_that_are_cancelled_none_runs() -> None:
    with gated(batchable=True) as (engine, gate), serving(engine) as server:
        calls = begin(server, CALLS)
        assert eventually(lambda: engine.stats()["queued_requests"] == CALLS, PATIENCE_S)
        for call in calls:
            assert call.cancel()
        assert eventually(lambda: engine.stats()["cancelled"] == CALLS, PATIENCE_S)
        assert engine.stats()["queued_bytes"] == 0
        assert eventually(lambda: server.service.inference.under_way == 0)
        gate.open()
        server.still_answers()
        assert gate.batches == [[-1], [1]]
        assert {call.code() for call in calls} == {grpc.StatusCode.CANCELLED}


def test_calls_that_are_cancelled_take_none_of_the_others_with_them() -> None:
    with gated(batchable=True) as (engine, gate), serving(engine) as server:
        calls = begin(server, CALLS)
        assert eventually(lambda: engine.stats()["queued_requests"] == CALLS, PATIENCE_S)
        for call in calls[::2]:
            assert call.cancel()
        assert eventually(lambda: engine.stats()["cancelled"] == CALLS // 2, PATIENCE_S)
        gate.open()
        for number, call in list(enumerate(calls))[1::2]:
            response = call.result(PATIENCE_S)
            np.testing.assert_array_equal(outputs_of(response)["y"], rows(value=2 * number))
        ran = sorted(value for batch in gate.batches for value in batch)
        assert ran == [-1, *range(1, CALLS, 2)]


def test_a_connection_that_is_lost_takes_its_calls_back() -> None:
    with gated(batchable=True) as (engine, gate), serving(engine) as server:
        with grpc.insecure_channel(
            server.server.addresses[0], [("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            calls = [Client(channel).begin(**raw(x=rows(value=2))) for _ in range(CALLS)]
            assert eventually(lambda: engine.stats()["queued_requests"] == CALLS, PATIENCE_S)
        assert eventually(lambda: engine.stats()["cancelled"] == CALLS, PATIENCE_S)
        gate.open()
        server.still_answers()
        assert gate.batches == [[-1], [1]]
        assert {call.code() for call in calls} == {grpc.StatusCode.CANCELLED}


def test_a_burst_of_calls_is_answered_however_many_come_at_once() -> None:
    """Of more than 1,000 that it has not looked at yet, grpc cancels some by itself."""
    with engine_of(batchable=True) as engine, serving(engine) as server:
        for number, call in enumerate(begin(server, 3 * CALLS)):
            response = call.result(PATIENCE_S)
            np.testing.assert_array_equal(outputs_of(response)["y"], rows(value=2 * number))
