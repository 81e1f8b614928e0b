"""Services over HTTP: bodies of every type, answers, refusals."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from engine_helpers import PATIENCE_S, Gate, engine_of, eventually, rows, run_threads
from http_helpers import Served, error_of, serving_services
from starlette.testclient import TestClient

from paddleinfer import ConfigError, InvalidInput
from paddleinfer.serve import Answer, Request, Service, ServiceLimits, Upload
from paddleinfer.shim import ServiceOptions, create_app

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=B"}


def told(value: Any) -> Any:
    """What came, as JSON has it."""
    if isinstance(value, Upload):
        return [value.filename, value.media_type, value.body.decode()]
    if isinstance(value, bytes):
        return {"bytes": len(value)}
    if isinstance(value, list):
        return list(map(told, value))
    return {name: told(part) for name, part in value.items()} if isinstance(value, dict) else value


def echo(request: Request, _: Any) -> Any:
    return {"value": told(request.value), "type": request.media_type, "query": dict(request.query)}


def client_of_services(services: dict[str, Service], **options: Any) -> TestClient:
    app = create_app({}, ServiceOptions(**options), services=services)
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    limits = ServiceLimits(max_parts=8, max_json_items=1000)
    with client_of_services(
        {"echo": Service({}, handle=echo, limits=limits)}, max_body_bytes=1 << 20
    ) as made:
        yield made


# -- what comes


def test_large_json_has_the_numbers_that_small_json_has(client: TestClient) -> None:
    numbers = [0, -7, 2**63, 1.5, -2.5e-3, 1e300, True, None]
    small = client.post("/services/echo", json={"numbers": numbers}).json()["value"]
    large = client.post("/services/echo", json={"numbers": numbers, "text": "x" * (600 << 10)}).json()[
        "value"
    ]
    assert large["numbers"] == small["numbers"] == numbers
    assert list(map(type, large["numbers"])) == list(map(type, small["numbers"]))


def test_a_number_of_too_many_digits_is_refused_in_a_sentence(client: TestClient) -> None:
    body = b'{"text":"%b","number":%b}' % (b"x" * (600 << 10), b"9" * 5000)
    assert "is not JSON" in error_of(client.post("/services/echo", content=body, headers=JSON), 400)


def test_json_is_a_value(client: TestClient) -> None:
    answer = client.post("/services/echo?a=1&b=", json={"text": ["ä", 1.5, None]})
    assert answer.json() == {
        "value": {"text": ["ä", 1.5, None]},
        "type": "application/json",
        "query": {"a": "1", "b": ""},
    }


def test_large_json_is_a_value_too(client: TestClient) -> None:
    assert client.post("/services/echo", json={"page": "x" * 700_000}).json()["value"] == {
        "page": "x" * 700_000
    }


def test_a_form_is_its_fields_and_files(client: TestClient) -> None:
    files = [("page", ("a.png", b"1", "image/png")), ("page", ("b.png", b"2")), ("one", ("c", b"3"))]
    answer = client.post("/services/echo", data={"lang": "de"}, files=files)
    assert answer.json()["value"] == {
        "lang": "de",
        "page": [["a.png", "image/png", "1"], ["b.png", "image/png", "2"]],
        "one": ["c", "application/octet-stream", "3"],
    }


def test_any_other_body_is_its_bytes(client: TestClient) -> None:
    for content_type in ("image/png", "text/plain", ""):
        answer = client.post("/services/echo", content=b"12345", headers={"Content-Type": content_type})
        assert answer.json()["value"] == {"bytes": 5}


def test_a_compressed_body_is_what_it_was(client: TestClient) -> None:
    body = gzip.compress(orjson.dumps("x" * 5000))
    answer = client.post("/services/echo", content=body, headers={**JSON, "Content-Encoding": "gzip"})
    assert answer.json()["value"] == "x" * 5000


# -- hostile bodies


def part(name: str = "a", value: str = "1") -> str:
    return f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'


HOSTILE = [
    (JSON, b"", 400, "the body is empty"),
    (JSON, b"{", 400, "is not JSON"),
    (JSON, b"\xff\xfe", 400, "is not JSON"),
    (JSON, b"[" * 900, 400, "is not JSON"),
    (JSON, b"[" + b"0," * 5000 + b"0]", 400, "max_json_items"),
    (JSON, b"{" + b",".join(b'"%d":0' % n for n in range(5000)) + b"}", 400, "1000 is the most"),
    (JSON, b'"' + b"x" * (600 << 10), 400, "is not JSON"),
    (JSON, b" " * (600 << 10) + b"NaN", 400, "is not JSON"),
    (JSON, b" " * (600 << 10) + b"[" * 900, 400, "is not JSON"),
    ({"Content-Type": "application/ld+json"}, b"{", 400, "is not JSON"),
    ({"Content-Type": "multipart/form-data"}, b"--B--", 400, "must name its boundary"),
    ({"Content-Type": "multipart/form-data; boundary=" + "B" * 5000}, b"--B--", 400, "the form is damaged"),
    (FORM, b"", 400, "cut short"),
    (FORM, b"no form at all", 400, "the form is damaged"),
    (FORM, part().encode(), 400, "cut short"),
    (FORM, (part() + "--B").encode(), 400, "cut short"),
    (FORM, b"--B\r\n\r\n1\r\n--B--\r\n", 400, "has no name"),
    (FORM, b"--B\r\nContent-Disposition: form-data\r\n\r\n1\r\n--B--\r\n", 400, "has no name"),
    (FORM, b"--B\r\nContent Disposition\r\n\r\n1\r\n--B--\r\n", 400, "the form is damaged"),
    (FORM, b"--B\r\n" + b"a: b\r\n" * 5000 + b"\r\n1\r\n--B--\r\n", 400, "the form is damaged"),
    (FORM, b"--B\r\na: " + b"b" * 50_000 + b"\r\n\r\n1\r\n--B--\r\n", 400, "the form is damaged"),
    (FORM, (part() * 9 + "--B--\r\n").encode(), 400, "more than 8 parts"),
    (FORM, (part("n" * 2000) + "--B--\r\n").encode(), 400, "1024 is the most"),
    (FORM, part(value="\xff").encode("latin-1") + b"--B--\r\n", 400, "the field 'a' is not UTF-8"),
    (FORM, b"x" * (2 << 20), 413, "larger than the 1048576 bytes"),
    ({"Content-Type": "text/plain", "Content-Encoding": "gzip"}, b"x", 400, "gzip stream"),
    (
        {"Content-Type": "text/plain", "Content-Encoding": "gzip"},
        gzip.compress(bytes(2 << 20)),
        413,
        "larger than the 1048576 bytes",
    ),
    ({"Content-Type": "text/plain", "Content-Encoding": "br"}, b"x", 415, "gzip and deflate"),
    ({"Paddleinfer-Timeout-Us": "soon"}, b"x", 400, "a number of microseconds"),
    ({"Paddleinfer-Timeout-Us": "0"}, b"x", 400, "from 1 up"),
]


@pytest.mark.parametrize(("headers", "body", "status", "sentence"), HOSTILE)
def test_a_hostile_body_is_refused_in_a_sentence_and_the_server_goes_on(
    client: TestClient, headers: dict[str, str], body: bytes, status: int, sentence: str
) -> None:
    assert sentence in error_of(client.post("/services/echo", content=body, headers=headers), status)
    assert client.post("/services/echo", json=1).json()["value"] == 1


@pytest.mark.parametrize("length", range(0, 120, 3))
def test_a_form_that_is_cut_anywhere_is_refused(client: TestClient, length: int) -> None:
    whole = (part() + part("b", "2") + "--B--").encode()
    answer = client.post("/services/echo", content=whole[: min(length, len(whole) - 1)], headers=FORM)
    error_of(answer, 400)


def test_too_many_parameters_are_refused(client: TestClient) -> None:
    error_of(client.post(f"/services/echo?{'a=1&' * 101}", json=1), 400)
    error_of(client.post(f"/services/echo?{'a' * 9000}", json=1), 400)


def test_an_unknown_service_is_not_found(client: TestClient) -> None:
    assert "the server has echo" in error_of(client.post("/services/nobody", json=1), 404)
    error_of(client.get("/services/nobody"), 404)
    error_of(client.put("/services/echo"), 405)


# -- what goes


@pytest.mark.parametrize(
    ("given", "content_type", "body"),
    [
        ({"a": np.float32(1.5), "b": np.arange(4)[::2]}, "application/json", b'{"a":1.5,"b":[0,2]}'),
        ("text", "text/plain; charset=utf-8", b"text"),
        (b"bytes", "application/octet-stream", b"bytes"),
        (None, "application/json", b"null"),
        (Answer(b"GIF", "image/gif", 201, {"X-Frames": "1"}), "image/gif", b"GIF"),
    ],
)
def test_answers_go_as_what_they_are(given: Any, content_type: str, body: bytes) -> None:
    with client_of_services({"s": Service({}, handle=lambda request, _: given)}) as client:
        answer = client.post("/services/s")
        assert (answer.headers["content-type"], answer.content) == (content_type, body)
        if isinstance(given, Answer):
            assert (answer.status_code, answer.headers["x-frames"]) == (201, "1")


@pytest.mark.parametrize(
    "given",
    [
        object(),
        {"a": {1, 2}},
        Answer("x", status=99),
        Answer("x", status=204),
        Answer("x", headers={"A": "b\r\nSet-Cookie: c"}),
        Answer("x", headers={"A b": "c"}),
        Answer("x", headers={"Content-Length": "9"}),
        Answer("x", "text/plain\r\nA: b"),
    ],
)
def test_an_answer_that_cannot_be_sent_is_the_services_fault(
    given: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of_services({"s": Service({}, handle=lambda request, _: given)}) as client:
        assert "failed in encode" in error_of(client.post("/services/s"), 500)
    assert len(caplog.records) == 1


def test_an_error_of_a_function_is_a_sentence_and_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def handle(request: Request, _: Any) -> Any:
        raise InvalidInput("no page is there") if request.value else KeyError("secret")

    with client_of_services({"s": Service({}, handle=handle)}) as client:
        message = error_of(client.post("/services/s", json=0), 500)
        assert message == "the service s failed in handle (KeyError); its log says why"
        assert len(caplog.records) == 1
        assert error_of(client.post("/services/s", json=1), 400) == "no page is there"
        assert len(caplog.records) == 1


def test_a_deadline_and_a_full_service_have_their_statuses() -> None:
    gate = Gate()
    limits = ServiceLimits(max_requests=1)
    with engine_of(gate) as engine:
        service = Service(engine, preprocess=lambda request: {"x": rows()}, limits=limits)
        with client_of_services({"s": service}) as client:
            late = client.post("/services/s", headers={"Paddleinfer-Timeout-Us": "20000"})
            thread = threading.Thread(target=service.call, args=(1,))
            thread.start()
            assert eventually(lambda: service.calls.under_way == 1)
            full = client.post("/services/s")
            gate.open()
            thread.join(PATIENCE_S)
    error_of(late, 504)
    assert "which is the most it takes" in error_of(full, 429)
    assert int(full.headers["retry-after"]) >= 1


# -- around the server's models


class Sum(Service):
    """Numbers in, twice their sum out."""

    def preprocess(self, request: Request) -> Any:
        return {"x": np.array(request.value, "float32")[None]}

    def postprocess(self, results: Any, request: Request) -> Any:
        return {"sum": float(results["y"].sum())}


def test_a_service_gets_the_engines_of_the_server() -> None:
    with engine_of() as engine:
        app = create_app({"m": engine}, services={"sum": Sum()})
        with TestClient(app) as client:
            assert client.post("/services/sum", json=[1, 2, 3]).json() == {"sum": 12.0}
            described = client.get("/services/sum").json()
            assert described["engines"] == ["m"]
            assert described["outcomes"]["result"] == 1
            assert client.get("/services").json()[0]["name"] == "sum"
            engine.close()
            assert "closed" in error_of(client.post("/services/sum", json=[1, 2, 3]), 503)


def test_a_service_of_an_engine_of_its_own_needs_no_models() -> None:
    with engine_of() as engine, client_of_services({"sum": Sum(engine)}) as client:
        assert client.post("/services/sum", json=[1, 2, 3]).json() == {"sum": 12.0}


def test_a_service_stays_its_givers_to_close() -> None:
    service = Service({}, handle=echo)
    for _ in range(2):
        with client_of_services({"s": service}) as client:
            assert client.post("/services/s", json=1).json()["value"] == 1
    service.close()
    with client_of_services({"s": service}) as client:
        assert "the service s is closed" in error_of(client.post("/services/s", json=1), 503)


def test_64_clients_get_the_same_answers_as_one() -> None:
    async def double(request: Request, engines: Any) -> Any:
        results = await engines.m.ainfer({"x": rows(value=request.value)})
        return float(results["y"][0, 0])

    services = {"plain": Sum(), "async": Service(handle=double)}
    with engine_of(batchable=True) as engine, serving_services({"m": engine}, services) as server:

        def ask(number: int) -> None:
            for step in range(3):
                value = number * 3 + step
                plain = ask_json(server, "plain", [value, value, value])
                assert plain.endswith(b'{"sum":%.1f}' % (6.0 * value))
                assert ask_json(server, "async", value).endswith(b"\r\n\r\n%.1f" % (2.0 * value))

        run_threads(64, ask)


def ask_json(server: Served, name: str, value: Any) -> bytes:
    body = orjson.dumps(value)
    head = f"POST /services/{name} HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
    return server.exchange(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def test_a_client_that_leaves_gives_its_request_up() -> None:
    gate = Gate()
    service = Service(preprocess=lambda request: {"x": rows()})
    with engine_of(gate) as engine, serving_services({"m": engine}, {"s": service}) as server:
        with server.connect() as leaving:
            leaving.sendall(b"POST /services/s HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n")
            gate.wait_entered()
        assert eventually(lambda: service.stats()["outcomes"]["cancelled"] == 1)
        gate.open()


def test_a_service_needs_the_key() -> None:
    with client_of_services({"s": Service({}, handle=echo)}, api_key="s3cret") as client:
        error_of(client.post("/services/s", json=1), 401)
        allowed = client.post("/services/s", json=1, headers={"Authorization": "Bearer s3cret"})
        assert allowed.status_code == 200


def test_a_picture_in_and_an_image_bomb_refused() -> None:
    palette, frame = bytes(6), b",\x00\x00\x00\x00\x03\x00\x02\x00\x00\x02\x02\x84_\x00;"
    picture = b"GIF89a\x03\x00\x02\x00\x80\x00\x00" + palette + frame
    bomb = b"GIF89a\xff\xff\xff\xff" + picture[10:]
    with client_of_services({"size": Service({}, handle=lambda request, _: request.image().size)}) as client:
        assert client.post("/services/size", content=picture).json() == [3, 2]
        assert client.post("/services/size", files={"page": ("a.gif", picture)}).json() == [3, 2]
        assert "max_image_pixels" in error_of(client.post("/services/size", content=bomb), 400)
        assert "damaged" in error_of(client.post("/services/size", content=b"no picture"), 400)
        assert client.post("/services/size", content=picture).json() == [3, 2]


def test_metrics_the_trace_and_the_verdict_have_services() -> None:
    with engine_of() as engine:
        app = create_app({"m": engine}, services={"sum": Sum()})
        with TestClient(app) as client:

            def ask() -> None:
                for _ in range(20):
                    assert client.post("/services/sum", json=[1, 2, 3]).status_code == 200

            client.post("/services/sum", json=[1, 2, 3])
            asking = threading.Thread(target=ask)
            asking.start()
            trace = client.get("/v2/trace?seconds=2").json()
            asking.join(PATIENCE_S)
            metrics = client.get("/metrics").text
            verdict = client.get("/services/sum/diagnosis").json()
            elsewhere = client.get("/services/nobody/diagnosis")
    assert 'paddleinfer_service_requests_total{outcome="result",service="sum"} 21.0' in metrics
    assert 'paddleinfer_requests_total{model="m",outcome="result"} 21.0' in metrics
    assert verdict["service"] == "sum" and verdict["requests"] == 21 and verdict["verdict"].endswith("-bound")
    error_of(elsewhere, 404)
    events = trace["traceEvents"]
    (service,) = [one["pid"] for one in events if one["ph"] == "M" and one["args"]["name"] == "service sum"]
    names = {one["name"] for one in events if one["pid"] == service and one["ph"] == "X"}
    assert {"service request", "decode", "preprocess", "infer", "postprocess", "encode"} <= names


# -- wrong services


@pytest.mark.parametrize(
    ("services", "sentence"),
    [
        ({"m": Service({}, handle=echo)}, "a model and a service are both named 'm'"),
        ({"a/b": Service({}, handle=echo)}, "made of letters"),
        ({"s": 3}, "must be a paddleinfer.serve.Service, not 3"),
        ({"s": Service(engine="q", preprocess=len)}, "names the engine 'q', and there is m"),
    ],
)
def test_a_wrong_service_is_refused_in_a_sentence(services: Any, sentence: str) -> None:
    with engine_of() as engine, pytest.raises(ConfigError, match=sentence):
        create_app({"m": engine}, services=services)
