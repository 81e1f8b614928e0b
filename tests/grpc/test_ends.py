"""What becomes of calls and streams when the server ends, on connections that are open already."""

from __future__ import annotations

import threading
import time
from typing import Any

import grpc
import pytest
from engine_helpers import PATIENCE_S, engine_of, rows
from grpc_helpers import Requests, failure, raw, serving

from paddleinfer.shim.grpc import status


def test_calls_that_have_come_when_the_server_ends_are_told_so() -> None:
    with engine_of() as engine, serving(engine) as server:
        over = threading.Event()
        answers = threading.Semaphore(0)
        ends: list[Any] = []

        def call() -> None:
            while not over.is_set():
                try:
                    server.infer(**raw(x=rows()))
                    answers.release()
                except grpc.RpcError as error:
                    ends.append(error.code())
                    return

        threads = [threading.Thread(target=call) for _ in range(16)]
        for thread in threads:
            thread.start()
        assert all(answers.acquire(timeout=PATIENCE_S) for _ in range(100))
        server.begin_stop(30.0).result(PATIENCE_S)
        over.set()
        for thread in threads:
            thread.join()
    assert set(ends) <= {grpc.StatusCode.UNAVAILABLE}


def test_a_backlog_of_calls_is_told_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server needs longer for it than it waits for further calls at least."""

    async def slow_abort(*given: Any) -> None:
        time.sleep(0.002)
        await status.abort(*given)

    monkeypatch.setattr("paddleinfer.shim.grpc.calls.abort", slow_abort)
    with engine_of() as engine, serving(engine) as server:
        calls = [server.begin(**raw(x=rows())) for _ in range(1000)]
        calls[0].result(PATIENCE_S)
        server.begin_stop(PATIENCE_S).result(PATIENCE_S)
        codes = {call.code() for call in calls}
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


def test_many_streams_end_with_the_server_and_no_word_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with engine_of() as engine, serving(engine) as server:
        requests = [Requests() for _ in range(40)]
        calls = [server.stream(each) for each in requests]
        for each, call in zip(requests, calls, strict=True):
            each.send(**raw(x=rows()))
            next(call)
        server.begin_stop(30.0).result(PATIENCE_S)
        for each, call in zip(requests, calls, strict=True):
            assert failure(lambda call=call: next(call))[0] is grpc.StatusCode.UNAVAILABLE
            each.end()
    assert caplog.messages == []
