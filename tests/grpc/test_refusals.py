"""Calls that get no result: the status of each error, deadlines, cancellation, limits, keys."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from engine_helpers import Gate, engine_of, eventually, gated, rows
from google.rpc.error_details_pb2 import RetryInfo
from grpc_bombs import varint
from grpc_helpers import Client, Served, described, failure, outputs_of, raw, serving
from grpc_status import rpc_status
from http_helpers import INFER
from http_processes import REQUEST
from starlette.testclient import TestClient

from paddleinfer.errors import (
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    EngineClosed,
    InvalidInput,
    ModelError,
    ModelLoadError,
    OutOfMemory,
    PaddleInferError,
    QueueFull,
    ServiceError,
    ThreadStartError,
)
from paddleinfer.shim.grpc.status import abort
from paddleinfer.shim.http.app import Application
from paddleinfer.shim.protocol.errors import RequestError

CODES = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    ConfigError: grpc.StatusCode.INVALID_ARGUMENT,
    ModelLoadError: grpc.StatusCode.INVALID_ARGUMENT,
    QueueFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    Cancelled: grpc.StatusCode.CANCELLED,
    EngineClosed: grpc.StatusCode.UNAVAILABLE,
    ModelError: grpc.StatusCode.INTERNAL,
    OutOfMemory: grpc.StatusCode.UNAVAILABLE,
    ServiceError: grpc.StatusCode.INTERNAL,
    ThreadStartError: grpc.StatusCode.UNAVAILABLE,
}


class Aborted(Exception):
    """Stands for a call that has ended."""


class Context:
    """Takes how a call ends."""

    async def abort(self, code: grpc.StatusCode, details: str, trailing: Any) -> None:
        raise Aborted(code, details)


def end_of(error: BaseException) -> Any:
    with pytest.raises(Aborted) as aborted:
        asyncio.run(abort(Context(), error))
    return aborted.value.args


def test_every_error_of_the_engine_has_its_status() -> None:
    known = (*PaddleInferError.__subclasses__(), *ModelError.__subclasses__())
    assert set(CODES) == {kind for kind in known if kind.__module__ == PaddleInferError.__module__}
    for kind, code in CODES.items():
        assert end_of(kind("why")) == (code, "why")


def test_an_error_that_nobody_expected_says_nothing_of_itself() -> None:
    code, sentence = end_of(KeyError("secret"))
    assert code == grpc.StatusCode.INTERNAL
    assert "secret" not in sentence


@pytest.mark.parametrize("character", ["x", "%", "é", "漢", "🏓"])
def test_a_sentence_that_would_not_fit_a_header_is_cut(character: str) -> None:
    for _ in range(12):
        _, sentence = end_of(RequestError(400, character * 100_000))
        assert sentence.endswith(f"{character}…")
    assert 1000 < len(urllib.parse.quote(sentence, safe="")) <= 1024
    _, whole = end_of(RequestError(400, character * 80))
    assert whole == character * 80


def test_many_outputs_or_dimensions_are_refused_as_fast_as_one() -> None:
    outputs = [{"name": f"{number:06}"} for number in range(200_000)]
    with engine_of() as engine, serving(engine) as server:
        code, sentence = server.refused(**raw(x=rows()), outputs=[*outputs, outputs[0]])
        assert code == grpc.StatusCode.INVALID_ARGUMENT and "1024 is the most" in sentence
        endless = {**described("x", rows()), "shape": [(1 << 63) - 1] * 1_500}
        code, sentence = server.refused(**{**raw(x=rows()), "inputs": [endless]})
        assert code == grpc.StatusCode.INVALID_ARGUMENT and "1500 dimensions" in sentence
        server.still_answers()


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with engine_of() as engine, serving(engine, max_body_bytes=100_000) as server:
        yield server


def retry_after_s(call: Any) -> float:
    """What the status of a refused call says."""
    with pytest.raises(grpc.RpcError) as refused:
        call.result()
    status = rpc_status.from_call(refused.value)
    assert status.code == refused.value.code().value[0]
    assert status.message == refused.value.details()
    info = RetryInfo()
    assert status.details[0].Unpack(info)
    return info.retry_delay.ToNanoseconds() / 1e9


def test_a_full_queue_says_when_to_come_back() -> None:
    with gated(max_queue_rows=1) as (engine, _), serving(engine) as server:
        waiting = server.begin(**raw(x=rows()))
        assert eventually(lambda: engine.stats()["queued_requests"] == 1)
        refused = server.begin(**raw(x=rows()))
        assert refused.exception().code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert 0 <= retry_after_s(refused) < 60
        waiting.cancel()


def test_more_than_may_be_under_way_is_refused_over_both_protocols() -> None:
    with gated() as (engine, gate), serving(engine, max_inflight=1) as server:
        waiting = server.begin(**raw(x=rows()))
        assert eventually(lambda: engine.stats()["queued_requests"] == 1)
        assert not server.service.inference.has_room
        refused = server.begin(**raw(x=rows()))
        assert "--max-inflight" in refused.exception().details()
        over_http = TestClient(Application(server.service, load=False)).post(INFER, json=REQUEST)
        assert over_http.status_code == 429 and "--max-inflight" in over_http.json()["error"]
        assert retry_after_s(refused) == 1.0
        gate.open()
        assert np.array_equal(outputs_of(waiting.result())["y"], rows() * 2)
        assert eventually(lambda: server.service.inference.has_room)
        server.still_answers()


def test_a_model_that_fails_is_an_internal_error_with_its_sentence() -> None:
    def fail(inputs: object) -> None:
        raise ValueError("negative")

    with engine_of(fail) as engine, serving(engine) as server:
        code, sentence = server.refused(**raw(x=rows()))
        assert code == grpc.StatusCode.INTERNAL
        assert "negative" in sentence
        (stream,) = server.stream([raw(x=rows())])
        assert "negative" in stream.error_message


def test_a_closed_engine_is_unavailable() -> None:
    engine = engine_of()
    with serving(engine) as server:
        engine.close()
        assert server.refused(**raw(x=rows()))[0] == grpc.StatusCode.UNAVAILABLE
        assert not server.call("ServerReady").ready


# -- deadlines and cancellation


def test_the_deadline_of_a_call_is_that_of_its_request() -> None:
    with gated() as (engine, gate), serving(engine) as server:
        code, _ = failure(lambda: server.infer(**raw(x=rows()), timeout=0.05))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert eventually(lambda: engine.stats()["queued_requests"] == 0)
        gate.open()
        server.still_answers()
        assert gate.ran == [-1, 1]


@pytest.mark.parametrize(("timeout_s", "timeout_us"), [(30.0, 20_000), (None, 20_000)])
def test_tritons_timeout_counts_where_it_is_sooner(timeout_s: float | None, timeout_us: int) -> None:
    with gated() as (engine, _), serving(engine) as server:
        timeout = {"timeout": {"int64_param": timeout_us}}
        code, sentence = failure(lambda: server.infer(**raw(x=rows()), parameters=timeout, timeout=timeout_s))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert sentence != "Deadline Exceeded"  # the server's own sentence
        assert engine.stats()["expired"] == 1


def test_a_call_that_is_cancelled_never_runs() -> None:
    with gated() as (engine, gate), serving(engine) as server:
        call = server.begin(**raw(x=rows(value=7)))
        assert eventually(lambda: engine.stats()["queued_requests"] == 1)
        call.cancel()
        assert eventually(lambda: engine.stats()["cancelled"] == 1)
        assert eventually(lambda: server.service.inference.under_way == 0)
        gate.open()
        server.still_answers()
        assert gate.ran == [-1, 1]
        assert server.service.inference.cut == 0


def test_calls_of_a_client_that_is_gone_never_run() -> None:
    with gated() as (engine, gate), serving(engine) as server:
        other = Client(grpc.insecure_channel(server.server.addresses[0]))
        calls = [other.begin(**raw(x=rows(value=7))) for _ in range(3)]
        assert eventually(lambda: engine.stats()["queued_requests"] == 3)
        other.channel.close()
        assert eventually(lambda: engine.stats()["cancelled"] == 3)
        assert all(call.cancelled() or call.exception() for call in calls)
        gate.open()
        server.still_answers()
        assert gate.ran == [-1, 1]


# -- limits and keys


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_that_is_too_large_is_refused(server: Served, compression: grpc.Compression) -> None:
    ask = server.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    code, _ = failure(lambda: ask(bytes(200_000), compression=compression))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    server.still_answers()


@pytest.mark.parametrize(
    ("of_messages", "of_bodies"), [(100_000, 1 << 20), (1 << 20, 100_000)], ids=["messages", "bodies"]
)
def test_a_message_may_have_what_both_limits_allow(of_messages: int, of_bodies: int) -> None:
    limits = {"max_grpc_message_bytes": of_messages, "max_body_bytes": of_bodies}
    with engine_of() as engine, serving(engine, **limits) as server:
        ask = server.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        code, sentence = failure(lambda: ask(bytes(100_001)))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "100000" in sentence
        code, _ = failure(lambda: ask(b"\x7a" + varint(90_000) + bytes(90_000)))  # it was read
        assert code == grpc.StatusCode.NOT_FOUND
        server.still_answers()


def test_an_unknown_method_is_unimplemented(server: Served) -> None:
    code, _ = failure(lambda: server.channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b""))
    assert code == grpc.StatusCode.UNIMPLEMENTED


def test_a_key_is_asked_for_by_all_but_health_checks() -> None:
    with engine_of(Gate()) as engine, serving(engine, api_key="secret") as server:
        for metadata in ((), (("authorization", "Bearer wrong"),), (("authorization", "secret"),)):
            code, sentence = failure(lambda given=metadata: server.call("ServerMetadata", metadata=given))
            assert code == grpc.StatusCode.UNAUTHENTICATED
            assert "authorization: Bearer KEY" in sentence
        assert server.refused(**raw(x=rows()))[0] == grpc.StatusCode.UNAUTHENTICATED
        code, _ = failure(lambda: list(server.stream([raw(x=rows())])))
        assert code == grpc.StatusCode.UNAUTHENTICATED
        ask = server.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        assert failure(lambda: list(ask(iter([])))) == (code, sentence)
        assert server.call("ServerLive").live
        assert server.call("ServerReady").ready
        health = server.channel.unary_unary("/grpc.health.v1.Health/Check")
        assert health(b"") == b"\x08\x01"
        key = (("authorization", "bearer secret"),)
        assert server.call("ServerMetadata", metadata=key).name == "paddleinfer"
