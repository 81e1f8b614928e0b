"""Services over the Open Inference Protocol: models with BYTES both ways, in JSON and in binary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import orjson
import pytest
from engine_helpers import engine_of
from http_helpers import error_of
from starlette.testclient import TestClient
from string_services import Backwards, SimpleString, packed

from paddleinfer import ConfigError
from paddleinfer.serve import Service
from paddleinfer.serve.tensors import Declared
from paddleinfer.shim import ServiceOptions, create_app

STRINGS = "/v2/models/simple_string/infer"
BACKWARDS = "/v2/models/backwards/infer"
FIRST, SECOND = [str(number) for number in range(16)], ["1"] * 16
SUMS = [str(number + 1) for number in range(16)]
DIFFERENCES = [str(number - 1) for number in range(16)]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    services = {"simple_string": SimpleString({}), "backwards": Backwards({})}
    with engine_of() as engine:
        app = create_app({"m": engine}, ServiceOptions(repository_control=True), services=services)
        with TestClient(app, raise_server_exceptions=False) as made:
            yield made


def tensor(name: str, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": shape, **more}


def strings(**more: Any) -> dict[str, Any]:
    inputs = [tensor("INPUT0", [1, 16], data=FIRST), tensor("INPUT1", [1, 16], data=SECOND)]
    return {"inputs": inputs, **more}


def ask(client: TestClient, url: str, document: Any, *parts: bytes) -> Any:
    """JSON, followed by binary tensors."""
    head = orjson.dumps(document)
    headers = {"Inference-Header-Content-Length": str(len(head))} if parts else {}
    return client.post(url, content=head + b"".join(parts), headers=headers)


def test_strings_go_both_ways_in_json(client: TestClient) -> None:
    answer = ask(client, STRINGS, strings(id="7")).json()
    assert answer == {
        "model_name": "simple_string",
        "model_version": "1",
        "id": "7",
        "outputs": [
            tensor("OUTPUT0", [1, 16], data=SUMS),
            tensor("OUTPUT1", [1, 16], data=DIFFERENCES),
        ],
    }


def test_strings_go_both_ways_in_binary(client: TestClient) -> None:
    parts = [packed(*(text.encode() for text in texts)) for texts in (FIRST, SECOND)]
    inputs = [
        tensor(name, [1, 16], parameters={"binary_data_size": len(part)})
        for name, part in zip(("INPUT0", "INPUT1"), parts, strict=True)
    ]
    document = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    answer = ask(client, STRINGS, document, *parts)
    length = int(answer.headers["inference-header-content-length"])
    sums, differences = (packed(*(text.encode() for text in texts)) for texts in (SUMS, DIFFERENCES))
    assert orjson.loads(answer.content[:length])["outputs"] == [
        tensor("OUTPUT0", [1, 16], parameters={"binary_data_size": len(sums)}),
        tensor("OUTPUT1", [1, 16], parameters={"binary_data_size": len(differences)}),
    ]
    assert answer.content[length:] == sums + differences


def test_outputs_are_chosen_each_in_its_form(client: TestClient) -> None:
    wanted = [{"name": "OUTPUT1", "parameters": {"binary_data": True}}]
    answer = ask(client, STRINGS, strings(outputs=wanted))
    length = int(answer.headers["inference-header-content-length"])
    assert answer.content[length:] == packed(*(text.encode() for text in DIFFERENCES))


def test_a_raw_binary_request_is_one_element(client: TestClient) -> None:
    headers = {"Inference-Header-Content-Length": "0"}
    answer = client.post(BACKWARDS, content=b"\x00\xffabc", headers=headers)
    assert answer.content.endswith(packed(b"cba\xff\x00") + (5).to_bytes(8, "little"))


def test_numbers_and_bytes_go_in_one_answer(client: TestClient) -> None:
    answer = ask(client, BACKWARDS, {"inputs": [tensor("data", [3], data=["", "ab", "cdef"])]}).json()
    assert answer["outputs"][1] == {"name": "sizes", "datatype": "INT64", "shape": [3], "data": [0, 2, 4]}
    nothing = ask(client, BACKWARDS, {"inputs": [tensor("data", [0], data=[])]}).json()
    assert nothing["outputs"][0] == tensor("data", [0], data=[])


def test_large_json_of_strings_is_read(client: TestClient) -> None:
    texts = ["x" * 1000] * 200
    answer = ask(client, BACKWARDS, {"inputs": [tensor("data", [200], data=texts)]}).json()
    assert answer["outputs"][0]["data"] == texts


def test_bytes_that_are_no_utf8_are_refused_in_json_and_had_in_binary(client: TestClient) -> None:
    part = packed(b"\xff")
    given = {"inputs": [tensor("data", [1], parameters={"binary_data_size": len(part)})]}
    assert "ask for it by the parameter binary_data" in error_of(ask(client, BACKWARDS, given, part), 400)
    binary = ask(client, BACKWARDS, {**given, "parameters": {"binary_data_output": True}}, part)
    assert part in binary.content


HOSTILE = [
    (tensor("data", [1], data=[1]), (), "no strings"),
    (tensor("data", [1], data=[["a"]]), (), "no strings"),
    (tensor("data", [2], data=[["a"], ["b"]]), (), "no strings"),
    (tensor("data", [2], data=["a"]), (), "1 elements"),
    (tensor("data", [1], data=[1] * 1), (), "no strings"),
    (tensor("data", [40_000], data=[1] * 40_000), (), "not BYTES"),
    (tensor("data", [1, 1], data=["a"]), (), "does not fit [-1]"),
    (tensor("other", [1], data=["a"]), (), "input 'data' is missing"),
    ({"name": "data", "datatype": "INT32", "shape": [1], "data": [1]}, (), "must be bytes, not int32"),
    (tensor("data", [1 << 20], parameters={"binary_data_size": 0}), (b"",), "262144 is the most"),
    (tensor("data", [1], parameters={"binary_data_size": 3}), (b"abc",), "hold 0 elements"),
    (tensor("data", [1], parameters={"binary_data_size": 5}), (b"\xff\xff\xff\xffa",), "hold 0 elements"),
    (tensor("data", [2], parameters={"binary_data_size": 5}), (packed(b"a"),), "hold 1 elements"),
    (tensor("data", [1], parameters={"binary_data_size": 9}), (packed(b"a", b""),), "4 bytes more"),
    (tensor("data", [-1], data=["a"]), (), "integers from 0 up"),
]


@pytest.mark.parametrize(("given", "parts", "sentence"), HOSTILE)
def test_what_is_no_tensor_of_bytes_is_refused(
    client: TestClient, given: Any, parts: Any, sentence: str
) -> None:
    assert sentence in error_of(ask(client, BACKWARDS, {"inputs": [given]}, *parts), 400)
    assert ask(client, STRINGS, strings()).status_code == 200


def test_an_unknown_output_is_refused(client: TestClient) -> None:
    message = error_of(ask(client, STRINGS, strings(outputs=[{"name": "X"}])), 400)
    assert message == "there is no output 'X'; the service has OUTPUT0, OUTPUT1"
    classes = [{"name": "OUTPUT0", "parameters": {"classification": 2}}]
    assert "cannot be classified" in error_of(ask(client, STRINGS, strings(outputs=classes)), 400)


def test_an_error_of_the_service_is_a_500_with_its_sentence(client: TestClient) -> None:
    inputs = [tensor("INPUT0", [1, 16], data=["one"] * 16), tensor("INPUT1", [1, 16], data=SECOND)]
    message = error_of(ask(client, STRINGS, {"inputs": inputs}), 500)
    assert message == "the service simple_string failed in handle (ValueError); its log says why"


def test_models_of_paddle_still_take_no_strings(client: TestClient) -> None:
    given = {"inputs": [tensor("x", [1], data=["a"])]}
    assert "Paddle's models take no strings" in error_of(client.post("/v2/models/m/infer", json=given), 400)


def test_a_service_says_what_it_is_as_a_model_does(client: TestClient) -> None:
    assert client.get("/v2/models/simple_string").json() == {
        "name": "simple_string",
        "versions": ["1"],
        "platform": "python",
        "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1, 16]} for name in ("INPUT0", "INPUT1")],
        "outputs": [
            {"name": name, "datatype": "BYTES", "shape": [-1, 16]} for name in ("OUTPUT0", "OUTPUT1")
        ],
    }
    config = client.get("/v2/models/simple_string/config").json()
    assert config["max_batch_size"] == 0
    assert config["input"][0] == {"name": "INPUT0", "data_type": "TYPE_STRING", "dims": [-1, 16]}
    assert client.get("/v2/models/simple_string/ready").json()["ready"] is True
    ask(client, STRINGS, strings())
    stats = client.get("/v2/models/simple_string/stats").json()["model_stats"][0]
    assert stats["inference_stats"]["success"]["count"] >= 1
    assert stats["inference_stats"]["compute_infer"]["ns"] > 0
    everything = client.get("/v2/models/stats").json()["model_stats"]
    assert [one["name"] for one in everything] == ["m", "simple_string", "backwards"]
    index = client.post("/v2/repository/index").json()
    assert [one["state"] for one in index] == ["READY"] * 3
    assert client.get("/v2/trace?seconds=0.01").status_code == 200


def test_a_service_is_neither_loaded_nor_unloaded(client: TestClient) -> None:
    for verb in ("load", "unload"):
        answer = client.post(f"/v2/repository/models/backwards/{verb}")
        assert "is a service, which is neither loaded nor unloaded" in error_of(answer, 400)


def test_its_verdict_is_elsewhere(client: TestClient) -> None:
    message = error_of(client.get("/v2/models/backwards/diagnosis"), 404)
    assert "GET /services/backwards/diagnosis" in message
    assert "verdict" in client.get("/services/backwards/diagnosis").json()


def test_a_deadline_of_the_protocol_holds(client: TestClient) -> None:
    late = ask(client, STRINGS, strings(parameters={"timeout": 1}))
    error_of(late, 504)


class Wrong(Service):
    """Answers what it did not declare."""

    inputs: ClassVar[Declared] = {"data": ("bytes", (-1,))}
    outputs: ClassVar[Declared] = {"size": ("int32", (1,))}

    def handle(self, request: Any) -> Any:
        return eval(request.value["data"][0])


@pytest.mark.parametrize(
    "answer", ["{}", "{'size': [1, 2]}", "{'size': 'many'}", "{'size': None}", "object()"]
)
def test_an_answer_that_was_not_declared_is_the_services_fault(answer: str) -> None:
    with TestClient(create_app({}, services={"w": Wrong({})}), raise_server_exceptions=False) as client:
        given = {"inputs": [tensor("data", [1], data=[answer])]}
        assert "failed in encode" in error_of(client.post("/v2/models/w/infer", json=given), 500)


@pytest.mark.parametrize("answer", ["3", "[3]", "{'size': 3}", "np.array([3])"])
def test_one_output_may_be_given_without_its_name(answer: str) -> None:
    globals_of_handle = Wrong.handle.__globals__
    assert globals_of_handle["np"] is np
    with TestClient(create_app({}, services={"w": Wrong({})})) as client:
        given = {"inputs": [tensor("data", [1], data=[answer])]}
        assert client.post("/v2/models/w/infer", json=given).json()["outputs"][0]["data"] == [3]


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"inputs": {"a": ("bytes", (1,))}}, "declared together"),
        ({"inputs": {}, "outputs": {}}, "inputs must be"),
        ({"inputs": {"a": "bytes"}, "outputs": {"a": ("bytes", (1,))}}, "and 'a' is 'bytes'"),
        ({"inputs": {"a": ("text", (1,))}, "outputs": {"a": ("bytes", (1,))}}, "dtype of 'a' in inputs"),
        ({"inputs": {"a": ("bytes", (1,))}, "outputs": {"a": ("int8", (-2,))}}, "shape of 'a' in outputs"),
    ],
)
def test_a_wrong_declaration_is_refused_in_a_sentence(tensors: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Service({}, handle=lambda request, _: None, **tensors)


@pytest.mark.parametrize("path", ["/services/backwards", BACKWARDS])
def test_a_page_of_another_site_asks_no_service(client: TestClient, path: str) -> None:
    document = {"inputs": [tensor("data", [1], data=["ab"])]}
    for foreign in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert "another site" in error_of(client.post(path, json=document, headers=foreign), 403)
    own = client.post(path, json=document, headers={"Origin": str(client.base_url)})
    assert "another site" not in own.text
