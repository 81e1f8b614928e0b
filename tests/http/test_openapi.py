"""The OpenAPI document: it lists what there is, and what there is answers as it says."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from typing import Any

import pytest
from engine_helpers import engine_of, gated, rows
from starlette.routing import Route
from starlette.testclient import TestClient

from paddleinfer import Engine
from paddleinfer.serve import Request
from paddleinfer.serve import Service as ModelService
from paddleinfer.shim import ServiceOptions, create_app
from paddleinfer.shim.http.app import Application
from paddleinfer.shim.http.routes import OPERATIONS, Handlers, routes
from paddleinfer.shim.service.models import Models
from paddleinfer.shim.service.service import Service

Document = dict[str, Any]

KEY = {"Authorization": "Bearer s3cret"}
INPUT = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
REQUEST = {"inputs": [INPUT]}
INFER = "/v2/models/{model}/infer"
GENERAL = {"tensor": [{"name": "x", "shape": [1, 3], "elem_type": 1, "float_data": [1, 2, 3]}]}
PROTO = {"Content-Type": "application/proto"}
METHODS = {"get", "post"}


def app_of(engine: Engine, **options: Any) -> Application:
    def answer(request: Request, _: Any) -> Any:
        if request.value == "fail":
            raise KeyError
        return request.value

    services = {"s": ModelService({}, handle=answer)}
    return create_app({"m": engine}, ServiceOptions(**options), services=services)


def document_of(app: Application) -> Document:
    with TestClient(app) as client:
        response = client.get("/openapi.json", headers=KEY)
        assert response.status_code == 200
        document: Document = response.json()
        return document


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def test_the_document_is_openapi_3_1() -> None:
    with engine_of() as engine:
        document = document_of(app_of(engine, api_key="s3cret"))
    assert document["openapi"] == "3.1.0"
    assert set(document) <= {"openapi", "info", "paths", "components", "security"}
    assert {"title", "version"} <= set(document["info"])
    assert set(document["components"]) == {"schemas", "securitySchemes"}
    assert [list(need) for need in document["security"]] == [list(document["components"]["securitySchemes"])]
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, method, operation in operations(document):
        assert method in METHODS, path
        assert operation["summary"]
        in_path = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", path)), path
        assert all(one["required"] for one in operation.get("parameters", []) if one["in"] == "path")
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[2-5]\d\d", status) and response["description"], path
            assert all("schema" in content for content in response["content"].values()), path
    for reference in references(document):
        prefix, _, name = reference.rpartition("/")
        assert prefix == "#/components/schemas" and name in document["components"]["schemas"], reference


def test_it_lists_exactly_the_routes_of_the_application() -> None:
    with engine_of() as engine:
        app = app_of(engine)
        listed = {(path, method.upper()) for path, method, _ in operations(document_of(app))}
    routes = [route for route in app.routes if isinstance(route, Route)]
    assert len(routes) == len(app.routes)
    assert listed == {
        (route.path, method) for route in routes for method in (route.methods or set()) - {"HEAD"}
    }


def test_its_example_is_a_request_that_the_model_takes() -> None:
    with engine_of() as engine:
        app = app_of(engine)
        content = document_of(app)["paths"][INFER]["post"]["requestBody"]["content"]["application/json"]
        with TestClient(app) as client:
            response = client.post("/v2/models/m/infer", json=content["examples"]["m"]["value"])
    assert response.status_code == 200
    assert response.json()["outputs"][0]["data"] == [0, 0, 0]


def test_a_server_without_a_key_asks_for_none() -> None:
    with engine_of() as engine:
        document = document_of(app_of(engine))
    assert "security" not in document and "securitySchemes" not in document["components"]
    assert not any("401" in operation["responses"] for _, _, operation in operations(document))


def test_with_a_key_all_but_the_page_and_the_health_routes_want_it() -> None:
    with engine_of() as engine:
        app = app_of(engine, api_key="s3cret")
        document = document_of(app)
        with TestClient(app) as client:
            for path, method, operation in operations(document):
                url = url_of(path)
                wanted = operation.get("security", document["security"]) != []
                assert ("401" in operation["responses"]) == wanted, path
                assert (client.request(method, url).status_code == 401) == wanted, path


ENDS = ("", "/ready", "/config", "/stats", "/diagnosis")
CASES: list[tuple[str, str, dict[str, Any], int]] = [
    ("/", "get", {}, 200),
    ("/openapi.json", "get", {}, 200),
    ("/metrics", "get", {}, 200),
    ("/v2", "get", {}, 200),
    ("/v2/", "get", {}, 200),
    ("/v2/health/live", "get", {}, 200),
    ("/v2/health/ready", "get", {}, 200),
    ("/v2/live", "get", {}, 200),
    ("/v2/models/stats", "get", {}, 200),
    ("/v2/trace", "get", {"params": {"seconds": 0.01}}, 200),
    ("/v2/trace", "get", {"params": {"seconds": 0.01, "model": "m"}}, 200),
    ("/v2/trace", "get", {"params": {"seconds": 61}}, 400),
    ("/v2/trace", "get", {"params": {"model": "q"}}, 404),
    ("/v2/repository/index", "post", {}, 200),
    ("/v2/repository/index", "post", {"json": {"ready": True}}, 200),
    ("/v2/repository/index", "post", {"content": b"{"}, 400),
    ("/v2/repository/index", "post", {"json": []}, 400),
    ("/v2/repository/index", "post", {"json": {"ready": "yes"}}, 400),
    ("/v2/repository/index", "post", {"content": b" " * 70_000}, 413),
    ("/v2/repository/models/{model}/load", "post", {}, 403),
    ("/v2/repository/models/{model}/unload", "post", {}, 403),
    *[
        (at + end, "get", {}, 200)
        for at in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
        for end in ENDS
    ],
    *[(f"/v2/models/{{other}}{end}", "get", {}, 404) for end in ENDS],
    (INFER, "post", {"json": REQUEST}, 200),
    (INFER, "post", {"json": {**REQUEST, "parameters": {"binary_data_output": True}}}, 200),
    ("/v2/models/{model}/versions/{version}/infer", "post", {"json": REQUEST}, 200),
    ("/v2/models/{other}/infer", "post", {"json": REQUEST}, 404),
    (INFER, "post", {"json": {"inputs": [{**INPUT, "shape": [1, 2]}]}}, 400),
    (INFER, "post", {"json": {"inputs": [{**INPUT, "shape": [0, 1 << 62], "data": []}]}}, 400),
    (INFER, "post", {"content": b" " * 5000}, 413),
    (INFER, "post", {"content": b"", "headers": {"Content-Encoding": "br"}}, 415),
    (INFER, "post", {"content": gzip.compress(b" " * 5000), "headers": {"Content-Encoding": "gzip"}}, 413),
    (INFER, "post", {"json": {"inputs": [{**INPUT, "data": [-1, 0, 0]}]}}, 500),
    ("/services", "get", {}, 200),
    ("/services/{service}", "get", {}, 200),
    ("/services/{service}/diagnosis", "get", {}, 200),
    ("/services/q", "get", {}, 404),
    ("/services/{service}", "post", {"json": {"a": 1}}, 200),
    ("/services/{service}", "post", {"content": b"raw"}, 200),
    ("/services/{service}", "post", {"json": "fail"}, 500),
    ("/services/{service}", "post", {"content": b" " * 5000}, 413),
    ("/services/{service}", "post", {"content": b"", "headers": {"Content-Encoding": "br"}}, 415),
    ("/services/{service}", "post", {"content": b"{", "headers": {"Content-Type": "application/json"}}, 400),
    ("/services/q", "post", {"json": {}}, 404),
    ("/{model}/prediction", "post", {"json": {"key": ["x"], "value": ["1,2,3"]}}, 200),
    ("/{model}/prediction", "post", {"json": {"feed": [{"x": [1, 2, 3]}], "fetch": ["y"]}}, 200),
    ("/{model}/prediction", "post", {"content": b" " * 5000}, 413),
    ("/GeneralModelService/inference", "post", {"json": GENERAL}, 200),
    ("/GeneralModelService/debug", "post", {"content": b"", "headers": PROTO}, 200),
    ("/GeneralModelService/inference", "post", {"content": b"", "headers": {"Content-Encoding": "br"}}, 415),
]


def assert_documented(document: Document, path: str, method: str, response: Any) -> None:
    declared = path.replace("{other}", "{model}").replace("services/q", "services/{service}")
    operation = document["paths"][declared][method]
    documented = operation["responses"].get(str(response.status_code))
    assert documented is not None, f"{method} {path} gave {response.status_code}, which is not documented"
    media_type = response.headers["content-type"].split(";")[0]
    contents = documented["content"]
    content = contents.get(media_type, contents.get("*/*"))["schema"]
    if media_type == "application/json" and content:
        schema = document["components"]["schemas"].get(content.get("$ref", "").rpartition("/")[2], content)
        value = response.json()
        assert isinstance(value, {"object": dict, "array": list}[schema["type"]]), path
        assert set(schema.get("required", [])) <= set(value if isinstance(value, dict) else ()), path
    for name in documented.get("headers", {}):
        if response.status_code >= 400:
            assert name.lower() in response.headers


def url_of(path: str) -> str:
    return (
        path.replace("{model}", "m")
        .replace("{other}", "q")
        .replace("{version}", "1")
        .replace("{service}", "s")
    )


def refuses_negative(inputs: dict[str, Any]) -> dict[str, Any]:
    if (inputs["x"] < 0).any():
        raise ValueError("negative")
    return {"y": inputs["x"]}


def test_what_requests_get_is_documented() -> None:
    with engine_of(refuses_negative, batchable=True) as engine:
        app = app_of(engine, max_body_bytes=4096)
        document = document_of(app)
        with TestClient(app, raise_server_exceptions=False) as client:
            for path, method, given, status in CASES:
                response = client.request(method, url_of(path), **given)
                assert response.status_code == status, (path, given, response.text)
                assert_documented(document, path, method, response)
    tried = {(path, method) for path, method, _, status in CASES if status in (200, 403)}
    there = {(path, method) for path, method, _ in operations(document)}
    assert not there - tried, "CASES has no request that such a route answers as it should"
    assert not tried - there


def test_another_method_is_documented_for_every_route() -> None:
    with engine_of() as engine:
        app = app_of(engine)
        document = document_of(app)
        with TestClient(app) as client:
            for path, method, operation in operations(document):
                response = client.delete(url_of(path))
                assert response.status_code == 405 and "405" in operation["responses"], path
                assert_documented(document, path, method, response)


def test_what_a_busy_and_a_closed_model_give_is_documented() -> None:
    with gated(max_queue_rows=1) as (engine, gate):
        app = app_of(engine)
        document = document_of(app)
        with TestClient(app, raise_server_exceptions=False) as client:
            late = client.post(url_of(INFER), json={**REQUEST, "parameters": {"timeout": 1000}})
            engine.submit({"x": rows()})
            full = client.post(url_of(INFER), json=REQUEST)
            gate.open()
            engine.close()
            closed = client.post(url_of(INFER), json=REQUEST)
            unready = [client.get("/v2/health/ready"), client.get("/v2/models/m/ready")]
    assert [response.status_code for response in (late, full, closed, *unready)] == [504, 429, 503, 503, 503]
    for response in (late, full, closed):
        assert_documented(document, INFER, "post", response)
    for path, response in zip(("/v2/health/ready", "/v2/models/{model}/ready"), unready, strict=True):
        assert_documented(document, path, "get", response)


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_what_control_of_models_gives_is_documented(verb: str) -> None:
    path = f"/v2/repository/models/{{model}}/{verb}"
    with engine_of() as engine:
        engine.close()
        app = app_of(engine, repository_control=True)
        document = document_of(app)
        with TestClient(app) as client:
            given_open = client.post(url_of(path))
            unknown = client.post(url_of(path).replace("/m/", "/q/"))
            large = client.post(url_of(path), content=b" " * 70_000)
    assert (given_open.status_code, unknown.status_code) == (400, 404)
    assert large.status_code == (413 if verb == "load" else 400)
    for response in (given_open, unknown, large):
        assert_documented(document, path, "post", response)


def test_every_route_is_declared_with_a_description() -> None:
    assert {route.name for route in routes(Service(Models.of({})))} == {one.handler for one in OPERATIONS}
    for one in OPERATIONS:
        assert re.fullmatch(r"[A-Z].*[^.]", one.summary), f"{one.handler} lacks a docstring, its summary"
        assert one.answer, f"{one.handler} says nothing of what it answers"
        assert one.method in ("GET", "POST") and one.paths, one.handler
    public = {name for name, method in vars(Handlers).items() if callable(method) and name[0] != "_"}
    assert public == {one.handler for one in OPERATIONS}, "a handler without @answers is never asked"
