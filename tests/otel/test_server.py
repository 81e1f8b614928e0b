"""Spans of the server's requests: below the caller's, by the conventions, by both handlers of requests."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engine_helpers import PATIENCE_S, Arrays, engine_of, eventually, gated, merging, rows, run_threads
from http_helpers import INFER, Served, client_of, json_tensor, serving
from opentelemetry import propagate
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from otel_helpers import (
    SAMPLED,
    SPAN_ID,
    TRACE_ID,
    UNSAMPLED,
    Recorded,
    exceptions,
    stages,
    told,
)
from starlette.testclient import TestClient
from string_services import SimpleString

import paddleinfer
from paddleinfer.otel import instrument
from paddleinfer.shim import ServiceOptions, create_app
from paddleinfer.shim.http.fast_path import FastPathRequest
from paddleinfer.shim.service.models import Models
from paddleinfer.shim.service.request_spans import ServerSpans
from paddleinfer.shim.service.stage_log import ServedTimes

BODY = json.dumps({"inputs": [json_tensor("x", rows())]})
# More than goes directly.
LARGE = BODY + " " * (64 << 10)
on_both_handlers = pytest.mark.parametrize("body", [BODY, LARGE], ids=["direct", "application"])
OUTER = ("receive", "decode", "encode", "send")


def post(server: Served, body: str = BODY, path: str = INFER, **headers: str) -> int:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    client.request("POST", path, body, {"Content-Type": "application/json", **headers})
    response = client.getresponse()
    response.read()
    client.close()
    return response.status


def assert_is_below_its_caller(span: ReadableSpan) -> None:
    assert span.kind is SpanKind.SERVER
    assert span.parent is not None and span.parent.is_remote
    assert (span.parent.trace_id, span.parent.span_id) == (TRACE_ID, SPAN_ID)


@on_both_handlers
def test_a_request_is_a_server_span_below_that_of_its_client(recorded: Recorded, body: str) -> None:
    with engine_of() as engine, serving(engine, otel=True) as server:
        headers = {"Traceparent": SAMPLED, "Tracestate": "a=1", "User-Agent": "t/1"}
        assert post(server, body, **headers) == 200
        span = recorded.span()
    assert_is_below_its_caller(span)
    assert span.name == "POST /v2/models/{model}/infer" and span.status.status_code is StatusCode.UNSET
    assert span.context is not None and span.context.trace_state.to_header() == "a=1"
    facts = told(span)
    expected: dict[str, Any] = {
        **{"http.request.method": "POST", "http.response.status_code": 200, "url.path": INFER},
        **{"http.route": "/v2/models/{model}/infer", "url.scheme": "http", "client.address": "127.0.0.1"},
        **{"user_agent.original": "t/1", "model.name": "m", "model.version": "1", "model.generation": 1},
        **{"outcome": "result", "run": 1, "rows": 1, "batch_rows": 1, "instance": 0},
    }
    assert {name: facts.get(name) for name in expected} == expected
    by_time = sorted(span.events, key=lambda event: event.timestamp)
    names = [event.name.removeprefix("paddleinfer.") for event in by_time]
    inner = ["submit", "queue", "gather", "run", "scatter"]
    assert names == ["receive", "decode", *inner, "encode", "send"]


@on_both_handlers
def test_a_request_whose_caller_is_not_sampled_makes_no_span(recorded: Recorded, body: str) -> None:
    with engine_of() as engine, serving(engine, otel=True) as server:
        assert post(server, body, traceparent=UNSAMPLED) == 200
        assert post(server, body) == 200
        span = recorded.span()
    assert span.parent is None


def test_a_path_with_a_version_has_a_route_of_its_own(recorded: Recorded) -> None:
    with engine_of() as engine, serving(engine, otel=True) as server:
        assert post(server, path="/v2/models/m/versions/1/infer") == 200
        assert told(recorded.span())["http.route"] == "/v2/models/{model}/versions/{version}/infer"


@pytest.mark.parametrize("value", ["7", "seven"])
def test_a_service_that_is_a_model_has_a_span_too(recorded: Recorded, value: str) -> None:
    tensors = [json_bytes(name, [value] * 16) for name in ("INPUT0", "INPUT1")]
    app = create_app({}, ServiceOptions(otel=True), services={"s": SimpleString({})})
    with TestClient(app, raise_server_exceptions=False) as client:
        status = client.post("/v2/models/s/infer", json={"inputs": tensors}).status_code
    span = recorded.span()
    assert status == (200 if value == "7" else 500)
    assert told(span)["http.response.status_code"] == status
    assert (span.attributes or {})["paddleinfer.model.name"] == "s"


def json_bytes(name: str, texts: list[str]) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [1, len(texts)], "data": texts}


def test_looking_at_the_server_makes_no_spans(recorded: Recorded) -> None:
    with engine_of() as engine, client_of(engine, otel=True) as client:
        for path in ("/", "/v2/health/live", "/v2/health/ready", "/metrics", "/v2/models/m", "/v2/live"):
            assert client.get(path, headers={"traceparent": SAMPLED}).status_code == 200
    assert recorded.spans(0) == []


def test_without_the_option_there_are_no_spans(recorded: Recorded) -> None:
    with engine_of() as engine, serving(engine) as server:
        assert post(server, traceparent=SAMPLED) == 200
    assert recorded.spans(0) == []


def test_requests_that_ran_together_have_the_same_run(recorded: Recorded) -> None:
    with merging(max_batch_size=16) as (engine, gate), serving(engine, otel=True) as server:

        def call(number: int) -> None:
            if number == 10:
                assert eventually(lambda: engine.stats()["queued_requests"] == 10)
                gate.open()
            else:
                assert post(server, traceparent=SAMPLED) == 200

        run_threads(11, call)
        facts = [told(span) for span in recorded.spans(10)]
    assert len({fact["run"] for fact in facts}) == 1
    assert {fact["batch_rows"] for fact in facts} == {10}


def failing(inputs: Arrays) -> Arrays:
    raise ValueError("no good")


@on_both_handlers
def test_a_request_that_failed_is_an_error(recorded: Recorded, body: str) -> None:
    with engine_of(failing) as engine, serving(engine, otel=True) as server:
        assert post(server, body, traceparent=SAMPLED) == 500
        span = recorded.span()
    assert_is_below_its_caller(span)
    assert exceptions(span) == ["paddleinfer.errors.ModelError"]
    facts = told(span)
    assert (facts["http.response.status_code"], facts["outcome"], facts["run"]) == (500, "error", 1)
    assert "run" in stages(span)


@on_both_handlers
def test_a_request_that_comes_too_late_is_an_error(recorded: Recorded, body: str) -> None:
    late = json.dumps({**json.loads(body), "parameters": {"timeout": 10_000}}) + " " * (len(body) - len(BODY))
    with gated() as (engine, _), serving(engine, otel=True) as server:
        assert post(server, late, traceparent=SAMPLED) == 504
        span = recorded.span()
    assert exceptions(span) == ["paddleinfer.errors.DeadlineExceeded"]
    assert told(span)["outcome"] == "expired" and "run" not in told(span)


@on_both_handlers
def test_a_request_for_which_there_is_no_room_is_an_error(recorded: Recorded, body: str) -> None:
    with gated(max_queue_rows=1) as (engine, _), serving(engine, otel=True) as server:
        engine.submit([rows()])
        assert post(server, body, traceparent=SAMPLED) == 429
        span = recorded.span()
    assert exceptions(span) == ["paddleinfer.errors.QueueFull"]
    assert told(span)["outcome"] == "refused" and told(span)["http.response.status_code"] == 429


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (INFER, "{", 400),
        (INFER, json.dumps({"inputs": [json_tensor("y", rows())]}), 400),
        ("/v2/models/other/infer", BODY, 404),
    ],
)
def test_a_mistake_of_the_client_is_no_error_of_the_server(
    recorded: Recorded, path: str, body: str, status: int
) -> None:
    with engine_of() as engine, serving(engine, otel=True) as server:
        assert post(server, body, path, traceparent=SAMPLED) == status
        span = recorded.span()
    assert span.status.status_code is StatusCode.UNSET and exceptions(span) == []
    assert (told(span)["outcome"], told(span)["http.response.status_code"]) == ("refused", status)
    assert told(span).get("model.name") == (None if status == 404 else "m")


@on_both_handlers
def test_a_client_that_leaves_ends_its_span(recorded: Recorded, body: str) -> None:
    with gated() as (engine, _), serving(engine, otel=True) as server:
        with server.connect() as connection:
            head = f"POST {INFER} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall((head + body).encode())
            assert eventually(lambda: engine.stats()["queued_requests"] == 1)
        span = recorded.span()
    assert told(span)["outcome"] == "cancelled" and span.status.status_code is StatusCode.UNSET


def test_an_instrumented_engine_has_its_span_below_that_of_the_application(recorded: Recorded) -> None:
    with engine_of() as engine:
        instrument(engine, recorded.provider)
        served = create_app({"m": engine})

        async def application(scope: Any, receive: Any, send: Any) -> None:
            with recorded.provider.get_tracer("application").start_as_current_span("above"):
                await served(scope, receive, send)

        assert TestClient(application).post(INFER, content=BODY).status_code == 200
        inner, above = recorded.spans(2)
    assert inner.kind is SpanKind.INTERNAL and above.context is not None
    assert inner.parent is not None and inner.parent.span_id == above.context.span_id


@pytest.fixture
def served() -> Iterator[Callable[[ServerSpans], Any]]:
    """Serves one request by gRPC's spans; gives the span."""
    with engine_of() as engine:
        (model,) = Models.of({"m": engine})

        def serve(spans: ServerSpans) -> Any:
            span = spans.of_rpc("inference.GRPCInferenceService/ModelInfer", {"traceparent": SAMPLED})
            assert span is not None
            span.serve(model)
            return span, engine.infer([rows()], return_info=True)[1]

        yield serve


def test_a_call_of_grpc_is_a_server_span_by_the_conventions_for_rpc(
    recorded: Recorded, served: Callable[[ServerSpans], Any]
) -> None:
    span, info = served(ServerSpans())
    span.answered(info, ServedTimes(*[info.stages[0][1]] * 6))
    done = recorded.span()
    assert_is_below_its_caller(done)
    assert done.name == "inference.GRPCInferenceService/ModelInfer"
    expected = {
        **{"rpc.system.name": "grpc", "rpc.method": done.name, "rpc.response.status_code": "OK"},
        **{"outcome": "result", "run": 1, "model.name": "m"},
    }
    facts = told(done)
    assert {name: facts.get(name) for name in expected} == expected


def test_the_events_of_a_span_are_in_the_order_of_time(
    recorded: Recorded, served: Callable[[ServerSpans], Any]
) -> None:
    span, info = served(ServerSpans())
    first, last = info.stages[0][1], info.stages[-1][2]
    span.answered(info, ServedTimes(first - 30, first - 20, first - 10, last, last + 10, last + 20))
    done = recorded.span()
    names = [event.name.removeprefix("paddleinfer.") for event in done.events]
    assert names[:3] == ["receive", "decode", "submit"] and names[-2:] == ["encode", "send"]
    assert [event.timestamp for event in done.events] == sorted(event.timestamp for event in done.events)


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (paddleinfer.QueueFull("full"), "RESOURCE_EXHAUSTED", StatusCode.ERROR),
        (paddleinfer.InvalidInput("unfit"), "INVALID_ARGUMENT", StatusCode.UNSET),
    ],
)
def test_a_call_of_grpc_that_is_refused_has_its_code(
    recorded: Recorded,
    served: Callable[[ServerSpans], Any],
    error: Exception,
    code: str,
    status: StatusCode,
) -> None:
    span, _ = served(ServerSpans())
    span.refused(error, code)
    done = recorded.span()
    assert done.status.status_code is status and told(done)["rpc.response.status_code"] == code
    assert told(done)["outcome"] == "refused"


def test_the_direct_way_is_taken_with_spans_too(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[FastPathRequest] = []
    run = FastPathRequest.run

    def noted(self: FastPathRequest) -> None:
        begun.append(self)
        run(self)

    monkeypatch.setattr(FastPathRequest, "run", noted)
    with engine_of() as engine, serving(engine, otel=True) as server:
        assert post(server, BODY) == 200 and len(begun) == 1
        assert post(server, LARGE) == 200 and len(begun) == 1
        recorded.spans(2)


@pytest.mark.parametrize(
    "further",
    [
        {"baggage": f"a=1{' ' * 8000}b"},
        {"baggage": "\t" * 8000 + ",b"},
        {"tracestate": f"a=1{' ' * 8000}b"},
        {"tracestate": "a=b," * 10_000},
        {"baggage": f"a=1{' ' * 60_000}b"},
    ],
    ids=["baggage", "tabs", "tracestate", "a long tracestate", "long baggage"],
)
def test_no_propagator_reads_many_blanks_or_what_is_too_long(
    recorded: Recorded, request: pytest.FixtureRequest, further: dict[str, str]
) -> None:
    """OpenTelemetry's patterns take quadratic time over blanks: 0.14 s for 8 KiB of baggage."""
    read: list[str] = []

    class Reading(TextMapPropagator):
        def extract(self, carrier: Any, context: Any = None, getter: Any = None) -> Any:
            for key in ("traceparent", *further):
                read.extend(getter.get(carrier, key) or [])
            return context

        def inject(self, carrier: Any, context: Any = None, setter: Any = None) -> None:
            raise AssertionError("nothing is sent on")

        @property
        def fields(self) -> set[str]:
            return set()

    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Reading())
    request.addfinalizer(lambda: propagate.set_global_textmap(before))
    spans = ServerSpans()
    agent = {"user-agent": "x" * 60_000}
    headers = {
        key.encode(): text.encode() for key, text in {"traceparent": SAMPLED, **further, **agent}.items()
    }
    made = [
        spans.of_http(INFER, headers, "http", None),
        spans.of_rpc("inference.GRPCInferenceService/ModelInfer", {"traceparent": SAMPLED, **further}),
    ]
    assert read.count(SAMPLED) == len(made)
    assert all(len(text) <= 8192 and "  " not in text and "\t" not in text for text in read)
    for span in made:
        assert span is not None
        span.end()
    assert len(told(recorded.spans(2)[0])["user_agent.original"]) == 1024
