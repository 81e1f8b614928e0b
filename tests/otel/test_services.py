"""Spans of requests to services: with their stages as events, and calls of engines as children."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engine_helpers import Arrays, engine_of, eventually, gated, rows
from http_helpers import serving_services
from opentelemetry import trace
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

from paddleinfer import InvalidInput
from paddleinfer.serve import Answer, Request, Service
from paddleinfer.shim import ServiceOptions, create_app

PATH = "/services/s"
Asking = Callable[..., TestClient]


@pytest.fixture
def asking() -> Iterator[Asking]:
    """Serves a service under the name s; afterwards its engines are closed."""
    with contextlib.ExitStack() as opened:

        def serve(service: Service, **options: Any) -> TestClient:
            for name in service.engines:
                opened.callback(service.engines[name].close)
            opened.enter_context(service)
            app = create_app({}, ServiceOptions(otel=True, **options), services={"s": service})
            return opened.enter_context(TestClient(app, raise_server_exceptions=False))

        yield serve


def two_engines(**functions: Any) -> Service:
    return Service({"first": engine_of(), "second": engine_of()}, **functions)


def of_request(spans: list[ReadableSpan]) -> tuple[ReadableSpan, list[ReadableSpan]]:
    """The request's, and those of engines, which are its children and lie within it."""
    (server,) = [span for span in spans if span.kind is SpanKind.SERVER]
    calls = [span for span in spans if span is not server]
    assert server.context is not None and server.start_time is not None and server.end_time is not None
    for call in calls:
        assert call.kind is SpanKind.INTERNAL and call.context is not None and call.parent is not None
        assert call.parent.span_id == server.context.span_id
        assert call.start_time is not None and call.end_time is not None
        assert server.start_time <= call.start_time <= call.end_time <= server.end_time
    return server, sorted(calls, key=lambda span: span.name)


def test_a_request_has_its_stages_and_the_engine_is_its_child(recorded: Recorded, asking: Asking) -> None:
    service = Service(
        engine_of(),
        preprocess=lambda request: [rows(value=request.value)],
        postprocess=lambda results, _: float(results["y"].sum()),
    )
    assert asking(service).post(PATH, json=2, headers={"traceparent": SAMPLED}).json() == 12
    span, (call,) = of_request(recorded.spans(2))
    assert span.parent is not None and (span.parent.trace_id, span.parent.span_id) == (TRACE_ID, SPAN_ID)
    assert span.name == "POST /services/{service}"
    facts = told(span)
    expected = {
        **{"http.route": "/services/{service}", "url.path": PATH, "http.response.status_code": 200},
        **{"service.name": "s", "outcome": "result"},
    }
    assert {name: facts.get(name) for name in expected} == expected
    seen = [stage for stage in stages(span) if stage != "wait"]
    assert seen == ["receive", "decode", "preprocess", "infer", "postprocess", "encode", "send"]
    assert call.name == "infer engine" and told(call)["outcome"] == "result"
    assert told(call)["batch_rows"] == 1 and "run" in stages(call)


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "coroutine"])
def test_each_call_of_an_engine_in_a_pipeline_is_a_child(
    recorded: Recorded, asking: Asking, is_async: bool
) -> None:
    def plain(request: Request, engines: Any) -> Any:
        first = engines.first.infer([rows()])
        return float(engines.second.infer([first["y"]])["y"].sum())

    async def coroutine(request: Request, engines: Any) -> Any:
        both = await asyncio.gather(engines.first.ainfer([rows()]), engines.second.ainfer([rows()]))
        results, info = await engines.second.ainfer([both[0]["y"]], return_info=True)
        assert info.rows == 1
        return float(results["y"].sum())

    service = two_engines(handle=coroutine if is_async else plain)
    assert asking(service).post(PATH).json() == 12
    span, calls = of_request(recorded.spans(4 if is_async else 3))
    seen = ["infer first", "infer second", "infer second"] if is_async else ["infer first", "infer second"]
    assert [call.name for call in calls] == seen
    assert {"handle", "infer", "encode"} <= set(stages(span))


def test_a_request_that_is_not_sampled_makes_no_span(recorded: Recorded, asking: Asking) -> None:
    client = asking(two_engines(handle=lambda _, engines: str(engines.first.infer([rows()])["y"].sum())))
    assert client.post(PATH, headers={"traceparent": UNSAMPLED}).text == "6.0"
    assert recorded.spans(0) == []


def test_without_the_option_a_service_makes_no_span(recorded: Recorded) -> None:
    with (
        Service({}, handle=lambda *_: "a") as service,
        TestClient(create_app({}, services={"s": service})) as client,
    ):
        assert client.post(PATH, headers={"traceparent": SAMPLED}).text == "a"
    assert recorded.spans(0) == []


def failing(inputs: Arrays) -> Arrays:
    raise ValueError("no good")


def test_a_function_that_fails_is_an_error_with_the_stages_until_then(
    recorded: Recorded, asking: Asking
) -> None:
    def wrong(results: Any, request: Request) -> Any:
        raise KeyError("x")

    service = Service(engine_of(), preprocess=lambda _: [rows()], postprocess=wrong)
    assert asking(service).post(PATH).status_code == 500
    span, (call,) = of_request(recorded.spans(2))
    assert exceptions(span) == ["paddleinfer.errors.ServiceError"] and told(span)["outcome"] == "error"
    assert {"preprocess", "infer"} <= set(stages(span)) and told(call)["outcome"] == "result"


def test_an_engine_that_fails_is_an_error_of_both(recorded: Recorded, asking: Asking) -> None:
    service = Service(engine_of(failing), preprocess=lambda _: [rows()])
    assert asking(service).post(PATH).status_code == 500
    span, (call,) = of_request(recorded.spans(2))
    for one in (span, call):
        assert exceptions(one) == ["paddleinfer.errors.ModelError"] and told(one)["outcome"] == "error"


def refusing(request: Request, _: Any) -> Any:
    raise InvalidInput("no good")


@pytest.mark.parametrize(
    ("handle", "path", "status", "outcome", "is_error"),
    [
        (refusing, PATH, 400, "refused", False),
        (refusing, "/services/other", 404, "refused", False),
        (lambda *_: Answer("busy", status=503), PATH, 503, "error", True),
        (lambda *_: Answer("no", status=404), PATH, 404, "result", False),
    ],
)
def test_who_is_at_fault_is_in_the_status(
    recorded: Recorded, asking: Asking, handle: Any, path: str, status: int, outcome: str, is_error: bool
) -> None:
    assert asking(Service({}, handle=handle)).post(path).status_code == status
    span = recorded.span()
    assert (told(span)["outcome"], told(span)["http.response.status_code"]) == (outcome, status)
    assert span.status.status_code is (StatusCode.ERROR if is_error else StatusCode.UNSET)


def test_a_client_that_leaves_ends_the_spans(recorded: Recorded) -> None:
    async def handle(request: Request, engines: Any) -> Any:
        return await engines.engine.ainfer([rows()])

    with (
        gated() as (engine, _),
        Service(engine, handle=handle) as service,
        serving_services({}, {"s": service}, otel=True) as server,
    ):
        with server.connect() as connection:
            connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n1".encode())
            assert eventually(lambda: engine.stats()["queued_requests"] == 1)
        span, (call,) = of_request(recorded.spans(2))
        for one in (span, call):
            assert told(one)["outcome"] == "cancelled" and one.status.status_code is StatusCode.UNSET


def test_paddle_servings_form_has_the_same_spans(recorded: Recorded, asking: Asking) -> None:
    def handle(request: Request, engines: Any) -> Any:
        return {"sum": float(engines.first.infer([rows()])["y"].sum())}

    client = asking(two_engines(handle=handle))
    assert client.post("/s/prediction", json={"key": ["a"], "value": [""]}).json()["value"] == ["6.0"]
    span, (call,) = of_request(recorded.spans(2))
    assert told(span)["http.route"] == "/{model}/{method}" and call.name == "infer first"
    recorded.clear()
    assert client.post("/s/prediction", json={}).json()["err_no"] == 5000
    assert told(recorded.span())["outcome"] == "refused"


def test_as_a_model_it_has_the_same_spans(recorded: Recorded, asking: Asking) -> None:
    async def handle(request: Request, engines: Any) -> Any:
        return {"y": (await engines.first.ainfer([rows()]))["y"][0]}

    service = two_engines(handle=handle, inputs={"x": ("float32", (1,))}, outputs={"y": ("float32", (-1,))})
    tensor = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
    client = asking(service)
    for further in ("", " " * 70_000):  # too long for the direct way
        recorded.clear()
        body = json.dumps({"inputs": [tensor]}) + further
        assert client.post("/v2/models/s/infer", content=body).status_code == 200
        span, (call,) = of_request(recorded.spans(2))
        assert call.name == "infer first" and told(span)["model.name"] == "s"
        seen = stages(span)
        assert {"receive", "handle", "infer", "send"} <= set(seen) and seen.index("handle") < seen.index(
            "send"
        )


def test_what_a_function_traces_itself_is_below_the_request(recorded: Recorded, asking: Asking) -> None:
    async def handle(request: Request, _: Any) -> str:
        with trace.get_tracer("application").start_as_current_span("own"):
            return "a"

    assert asking(Service({}, handle=handle)).post(PATH).text == "a"
    _, (own,) = of_request(recorded.spans(2))
    assert own.name == "own"


def test_a_service_inside_a_service_is_told_with_the_outer_one(recorded: Recorded, asking: Asking) -> None:
    with (
        engine_of() as engine,
        Service(engine, preprocess=lambda _: [rows()], postprocess=lambda *_: 1) as inner,
    ):

        async def awaiting(request: Request, _: Any) -> Any:
            return await inner.acall(request.value)

        for handle in (awaiting, lambda request, _: inner.call(request.value)):
            recorded.clear()
            assert asking(Service({}, handle=handle)).post(PATH, content=b"a").json() == 1
            span, (call,) = of_request(recorded.spans(2))
            assert call.name == "infer engine"
            assert "handle" in stages(span) and "preprocess" not in stages(span)


def test_a_long_answer_and_body_have_their_span_too(recorded: Recorded, asking: Asking) -> None:
    text = base64.b64encode(bytes(1 << 20)).decode()
    client = asking(Service({}, handle=lambda request, _: request.value["text"]))
    assert client.post(PATH, json={"text": text}, headers={"Accept-Encoding": "gzip"}).text == text
    assert stages(recorded.span())[:1] == ["receive"]


def test_an_engine_used_elsewhere_makes_no_span(recorded: Recorded) -> None:
    with engine_of() as engine, Service(engine, preprocess=lambda _: [rows()]) as service:
        service.call(None)
    assert recorded.spans(0) == []
