"""Spans of gRPC calls, and of each request of a stream: below the caller's, by the conventions."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pipeline_wire
import pytest
from engine_helpers import PATIENCE_S, Arrays, echo_engine, engine_of, eventually, gated, merging, rows
from grpc_helpers import failure, raw, serving
from opentelemetry.trace import SpanKind, StatusCode
from otel_helpers import (
    SAMPLED,
    SPAN_ID,
    TRACE_ID,
    UNSAMPLED,
    Recorded,
    exceptions,
    told,
)

from paddleinfer.serve import Request, Service

CALLER = (("traceparent", SAMPLED), ("tracestate", "a=1"))
SERVICE = "inference.GRPCInferenceService"


def failing(inputs: Arrays) -> Arrays:
    raise ValueError("no good")


def test_a_call_is_a_server_span_below_that_of_its_client(recorded: Recorded) -> None:
    with engine_of() as engine, serving(engine, otel=True) as server:
        server.call("ModelInfer", metadata=CALLER, **raw(x=rows()))
        span = recorded.span()
    assert span.parent is not None and span.parent.is_remote
    assert (span.parent.trace_id, span.parent.span_id) == (TRACE_ID, SPAN_ID)
    assert span.context is not None and span.context.trace_state.to_header() == "a=1"
    assert (span.name, span.kind) == (f"{SERVICE}/ModelInfer", SpanKind.SERVER)
    facts = told(span)
    expected: dict[str, Any] = {
        **{"rpc.system.name": "grpc", "rpc.method": span.name, "rpc.response.status_code": "OK"},
        **{"model.name": "m", "outcome": "result", "run": 1, "rows": 1, "batch_rows": 1, "instance": 0},
    }
    assert {name: facts.get(name) for name in expected} == expected
    names = [event.name for event in sorted(span.events, key=lambda event: event.timestamp)]
    inner = ["submit", "queue", "gather", "run", "scatter"]
    assert names == [f"paddleinfer.{name}" for name in ("decode", *inner, "encode", "send")]


def test_each_request_of_a_stream_is_a_span_and_those_of_a_run_have_its_number(recorded: Recorded) -> None:
    with merging() as (engine, gate), serving(engine, otel=True) as server:
        responses = server.stream([raw(x=rows())] * 8, CALLER)
        assert eventually(lambda: engine.stats()["queued_requests"] == 8)
        gate.open()
        assert len(list(responses)) == 8
        spans = recorded.spans(8)
    assert {span.name for span in spans} == {f"{SERVICE}/ModelStreamInfer"}
    assert {span.parent.span_id for span in spans if span.parent is not None} == {SPAN_ID}
    assert len({told(span)["run"] for span in spans}) == 1


def test_a_call_whose_caller_is_not_sampled_makes_no_span(recorded: Recorded) -> None:
    with engine_of() as engine, serving(engine, otel=True) as server:
        server.call("ModelInfer", metadata=(("traceparent", UNSAMPLED),), **raw(x=rows()))
        server.call("ServerLive", metadata=CALLER)
    assert recorded.spans(0) == []


def test_a_call_that_failed_is_an_error_with_its_status(recorded: Recorded) -> None:
    with engine_of(failing) as engine, serving(engine, otel=True) as server:
        assert server.refused(metadata=CALLER, **raw(x=rows()))[0] is grpc.StatusCode.INTERNAL
        failed = recorded.span()
        recorded.clear()
        wrong = {**raw(x=rows()), "model_name": "q"}
        assert server.refused(metadata=CALLER, **wrong)[0] is grpc.StatusCode.NOT_FOUND
        refused = recorded.span()
    assert exceptions(failed) == ["paddleinfer.errors.ModelError"]
    assert told(failed)["rpc.response.status_code"] == "INTERNAL"
    # By the conventions it is the client's fault.
    assert refused.status.status_code is StatusCode.UNSET
    assert told(refused)["rpc.response.status_code"] == "NOT_FOUND" and told(refused)["outcome"] == "refused"


def test_calls_that_are_cancelled_or_cut_say_so(recorded: Recorded) -> None:
    with gated() as (engine, gate), serving(engine, otel=True) as server:
        call = server.begin(**raw(x=rows()))
        assert eventually(lambda: engine.stats()["requests"] == 2)
        call.cancel()
        assert told(recorded.span())["outcome"] == "cancelled"
        recorded.clear()
        cut = server.begin(**raw(x=rows()))
        assert eventually(lambda: engine.stats()["requests"] == 3)
        server.begin_stop(0.0).result(PATIENCE_S)
        assert failure(cut.result)[0] is grpc.StatusCode.UNAVAILABLE
        span = recorded.span()
        gate.open()
    assert told(span)["outcome"] == "closed" and span.status.status_code is StatusCode.ERROR


def test_answers_of_a_stream_that_its_client_left_end_their_spans(recorded: Recorded) -> None:
    large = np.zeros((1, 4 << 20), "float32")  # more than a connection takes ahead of its reader
    room = 2 * large.nbytes
    with (
        echo_engine(shape=(-1, large.size)) as engine,
        serving(engine, otel=True, max_grpc_message_bytes=room) as server,
    ):
        call = server.stream([raw(x=large)] * 2)
        assert eventually(lambda: engine.stats()["results"] == 2)
        call.cancel()
        spans = recorded.spans(2)
    assert {told(span)["outcome"] for span in spans} == {"cancelled"}


def summed(request: Request, engines: Any) -> Any:
    return {"y": float(engines.m.infer([rows()])["y"].sum())}


@pytest.mark.parametrize("method", ["ModelInfer", "PipelineService"])
def test_calls_of_engines_by_a_service_are_children(recorded: Recorded, method: str) -> None:
    declared = {"inputs": {"x": ("float32", (1,))}, "outputs": {"y": ("float32", (1,))}}
    with (
        engine_of() as engine,
        Service(handle=summed, **declared) as service,
        serving({"m": engine}, {"s": service}, otel=True) as server,
    ):
        if method == "ModelInfer":
            server.call("ModelInfer", metadata=CALLER, **{**raw(x=np.zeros(1, "float32")), "model_name": "s"})
        else:
            path = "/baidu.paddle_serving.pipeline_serving.PipelineService/inference"
            asked = pipeline_wire.request({"x": "1"}, name="s")
            answer = server.channel.unary_unary(path)(asked, timeout=PATIENCE_S, metadata=CALLER)
            assert pipeline_wire.read_response(answer)["value"] == ["6.0"]
        call, span = sorted(recorded.spans(2), key=lambda one: one.kind is SpanKind.SERVER)
    assert span.context is not None and call.parent is not None
    assert call.parent.span_id == span.context.span_id and call.name == "infer m"
    seen = [event.name for event in span.events]
    assert seen.index("paddleinfer.handle") < seen.index("paddleinfer.send")
    assert told(span)["outcome"] == "result"
