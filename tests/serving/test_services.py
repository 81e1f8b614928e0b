"""Services that Paddle Serving's clients of pipelines ask: texts and arrays in, keys and values out."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engine_helpers import engine_of
from starlette.testclient import TestClient
from string_services import Backwards

from paddleinfer import ConfigError, DeadlineExceeded, InvalidInput
from paddleinfer.serve import Answer, Request, Service
from paddleinfer.serving.formats.pipeline import PipelineRequest, PipelineResponse
from paddleinfer.shim import ServiceOptions, create_app
from paddleinfer.shim.http.routes import OPERATIONS
from paddleinfer.shim.service.service_pipeline import ServicePipeline
from paddleinfer.shim.service.services import ROUTES

PATH = "/shout/prediction"


def shout(request: Request, _: Any) -> Any:
    value = request.value
    if "fail" in value:
        raise {"invalid": InvalidInput, "late": DeadlineExceeded, "wrong": KeyError}[value["fail"]]("no good")
    return {name: one.upper() if isinstance(one, str) else one * 2 for name, one in value.items()}


@pytest.fixture
def client() -> Iterator[TestClient]:
    with Service({}, handle=shout) as service, client_of(service) as asking:
        yield asking


def client_of(service: Service, **options: Any) -> TestClient:
    return TestClient(create_app({}, ServiceOptions(**options), services={"shout": service}))


def test_a_service_is_asked_by_keys_and_values_whatever_the_type_of_the_body(client: TestClient) -> None:
    document = {"key": ["text", "more"], "value": ["loud", "ä"], "logid": 1, "clientip": "1.2.3.4"}
    for headers in ({}, {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}):
        answer = client.post(PATH, content=json.dumps(document), headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json() == {
            **{"err_no": 0, "err_msg": "", "tensors": []},
            **{"key": ["text", "more"], "value": ["LOUD", "Ä"]},
        }


def test_what_is_no_text_is_answered_in_json(client: TestClient) -> None:
    tensor = {"name": "x", "elem_type": 1, "shape": [1, 2], "float_data": [1.5, 2]}
    answer = client.post(PATH, json={"key": ["text"], "value": ["a"], "tensors": [tensor]}).json()
    assert (answer["key"], answer["value"]) == (["text", "x"], ["A", "[[3.0,4.0]]"])


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ({"n": 3, "none": None, 1: [1]}, ["n", "none", "1"], ["3", "null", "[1]"]),
        (["a", 1], ["result"], ['["a",1]']),
        ("plain", ["result"], ["plain"]),
        (Answer({"a": np.float32(0.5)}), ["a"], ["0.5"]),
    ],
)
def test_any_answer_of_a_service_has_keys_and_values(given: Any, key: list[str], value: list[str]) -> None:
    with Service({}, handle=lambda *_: given) as service, client_of(service) as asking:
        answer = asking.post(PATH, json={"key": ["x"], "value": [""]}).json()
    assert (answer["err_no"], answer["key"], answer["value"]) == (0, key, value)


def test_a_class_says_what_its_keys_and_values_are() -> None:
    class Reversed(Backwards):
        def prediction(self, answer: Any) -> Any:
            return {"result": str([one.decode() for one in answer["data"]])}

        async def handle(self, request: Request) -> Any:
            if isinstance(request.value["data"], str):
                request = Request({"data": [request.value["data"].encode()]})
            return await super().handle(request)

    with Reversed({}) as service, client_of(service) as asking:
        answer = asking.post(PATH, json={"key": ["data"], "value": ["abc"]}).json()
        assert (answer["key"], answer["value"]) == (["result"], ["['cba']"])
        tensor = {"name": "data", "datatype": "BYTES", "shape": [1], "data": ["abc"]}
        asked = asking.post("/v2/models/shout/infer", json={"inputs": [tensor]}).json()
        assert asked["outputs"][0]["data"] == ["cba"]


@pytest.mark.parametrize(
    ("document", "err_no", "status", "words"),
    [
        ({"key": ["fail"], "value": ["invalid"]}, 5000, 400, "no good"),
        ({"key": ["fail"], "value": ["late"]}, 6000, 504, "no good"),
        ({"key": ["fail"], "value": ["wrong"]}, 9000, 500, "failed in handle (KeyError)"),
        ({"key": ["x"], "value": []}, 5000, 400, "1 keys and 0 values"),
        ({"key": ["x"], "value": [1]}, 5000, 400, "must be a list of texts"),
        ({"key": ["x", "x"], "value": ["", ""]}, 5000, 400, "'x' is given twice"),
        ({"feed": [{"x": 1}], "fetch": ["y"]}, 5000, 400, 'not "feed" and "fetch"'),
        ({"tensors": [{"name": "x", "elem_type": 99}]}, 5000, 400, "elem_type"),
        ({}, 5000, 400, "it has neither"),
        ([], 5000, 400, "must be a JSON object"),
    ],
)
def test_a_request_without_a_result_has_a_number_and_a_sentence(
    document: Any, err_no: int, status: int, words: str
) -> None:
    for real in (False, True):
        with (
            Service({}, handle=shout) as service,
            client_of(service, http_status="real" if real else "200") as asking,
        ):
            answer = asking.post(PATH, json=document)
            assert answer.status_code == (status if real else 200)
            assert answer.json()["err_no"] == err_no and words in answer.json()["err_msg"], answer.text
            assert asking.post(PATH, json={"key": ["text"], "value": ["a"]}).json()["value"] == ["A"]


def test_an_answer_that_cannot_be_written_is_an_error_of_the_service() -> None:
    for given in ({"a": b"\xff"}, {"a": object()}):
        with Service({}, handle=lambda *_, given=given: given) as service, client_of(service) as asking:
            answer = asking.post(PATH, json={"key": ["x"], "value": [""]}).json()
        assert answer["err_no"] == 9000 and "failed in encode" in answer["err_msg"], answer


def test_a_service_and_a_pipeline_have_names_of_their_own() -> None:
    with (
        Service({}, handle=shout) as one,
        Service({}, handle=shout) as other,
        pytest.raises(ConfigError, match="both named 'shout'"),
    ):
        create_app({}, services={"shout": one}, pipelines={"shout": ServicePipeline(other)})


@pytest.mark.parametrize("name", sorted(ROUTES))
def test_neither_is_named_as_paths_of_the_server(name: str) -> None:
    with Service({}, handle=shout) as service:
        for given in ({"services": {name: service}}, {"pipelines": {name: ServicePipeline(service)}}):
            with pytest.raises(ConfigError, match=f"cannot be named '{name}': the server answers /{name}/"):
                create_app({}, **given)


def test_the_longer_paths_of_the_server_begin_with_these_names() -> None:
    parts = [path.split("/")[1:] for one in OPERATIONS for path in one.paths.values()]
    assert {first for first, *further in parts if any(further) and not first.startswith("{")} == ROUTES


def test_a_prediction_of_nobody_names_services_pipelines_and_models() -> None:
    with engine_of() as engine, Service({}, handle=shout) as one, Service({}, handle=shout) as other:
        app = create_app({"m": engine}, services={"s": one}, pipelines={"p": ServicePipeline(other)})
        with TestClient(app) as client:
            said = client.post("/nope/prediction", json={"key": ["x"], "value": ["1"]}).json()
    assert said["err_no"] == 3002 and "unknown model 'nope'; the server has s, p, m" in said["err_msg"], said


def test_a_service_answers_in_the_process_as_a_pipeline_does() -> None:
    async def ask(
        service: Service, *pairs: tuple[str, str], timeout: float | None = None
    ) -> PipelineResponse:
        request = PipelineRequest(keys=[key for key, _ in pairs], values=[value for _, value in pairs])
        return await ServicePipeline(service).answer(request, timeout=timeout)

    with Service({}, handle=shout) as service:
        answered = asyncio.run(ask(service, ("text", "a")))
        assert (answered.err_no, answered.keys, answered.values) == (0, ["text"], ["A"])
        for pairs, err_no in (((("fail", "invalid"),), 5000), ((("fail", "wrong"),), 9000), ((), 5000)):
            refused = asyncio.run(ask(service, *pairs))
            assert refused.err_no == err_no and refused.err_msg and refused.keys == []
        assert asyncio.run(ask(service, ("text", "a"), timeout=-1)).err_no == 5000


def test_pictures_go_through_in_base64() -> None:
    images = pytest.importorskip("PIL.Image")
    import io

    file = io.BytesIO()
    images.new("RGB", (5, 3)).save(file, "JPEG")
    text = base64.b64encode(file.getvalue()).decode()
    size = Service({}, handle=lambda request, _: {"size": list(request.image("image").size)})
    with size as service, client_of(service) as asking:
        assert asking.post(PATH, json={"key": ["image"], "value": [text]}).json()["value"] == ["[5,3]"]
        for wrong in (text[: len(text) // 2], "", "?", base64.b64encode(b"GIF89a").decode()):
            answer = asking.post(PATH, json={"key": ["image"], "value": [wrong]}).json()
            assert answer["err_no"] == 5000 and "image" in answer["err_msg"]
