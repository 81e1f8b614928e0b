"""Paddle Serving's clients: they ask this server, and a model in the process, with their own names."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Gate, engine_of, run_threads
from http_helpers import Served, read_response, serving
from serving_models import HOUSE, price_of

from paddleinfer import Engine
from paddleinfer.cli.main import main
from paddleinfer.errors import ConfigError, DeadlineExceeded, InvalidInput, ModelError, QueueFull
from paddleinfer.models.serving_conf import CLIENT_FILE_NAME
from paddleinfer.serving import Client, HttpClient
from paddleinfer.tracing.paddle_profile import read

DOUBLING = """feed_var { name: "x" alias_name: "x" feed_type: 1 shape: 3 }
fetch_var { name: "y" alias_name: "y" fetch_type: 1 shape: 3 }
"""


@pytest.fixture(scope="module")
def uci_client(fit_a_line: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that a client has."""
    model = Path(shutil.copytree(fit_a_line, tmp_path_factory.mktemp("client") / "model"))
    client = model.parent / "uci_housing_client"
    assert main(["convert", str(model), "--serving_client", str(client)]) == 0
    return client


@pytest.fixture(scope="module")
def server(fit_a_line: Path) -> Iterator[Served]:
    with Engine(fit_a_line) as engine, serving(engine) as served:
        yield served


@pytest.fixture(scope="module")
def price(fit_a_line: Path) -> Any:
    return price_of(fit_a_line, np.array([HOUSE]))


@pytest.fixture
def doubling_conf(tmp_path: Path) -> Path:
    (tmp_path / CLIENT_FILE_NAME).write_text(DOUBLING)
    return tmp_path / CLIENT_FILE_NAME


def endpoint(served: Served) -> str:
    return f"127.0.0.1:{served.port}"


# The documented snippets


def test_the_documented_client_gets_the_documented_answer(
    server: Served, uci_client: Path, price: Any
) -> None:
    client = Client()
    client.load_client_config(str(uci_client / "serving_client_conf.prototxt"))
    client.connect([endpoint(server)])
    fetch_list = client.get_fetch_names()
    new_data = np.zeros((1, 13)).astype("float32")
    new_data[0] = HOUSE
    fetch_map = client.predict(feed={"x": new_data}, fetch=fetch_list, batch=True)
    assert list(fetch_map) == ["price"] and fetch_map["price"].dtype == np.float32
    np.testing.assert_allclose(fetch_map["price"], price, rtol=1e-5)
    client.release()


@pytest.mark.parametrize("proto", [True, False])
def test_the_documented_http_client_gets_the_documented_answer(
    server: Served, uci_client: Path, price: Any, proto: bool
) -> None:
    client = HttpClient()
    client.load_client_config(str(uci_client))
    client.set_http_proto(proto)
    client.connect([endpoint(server)])
    fetch_list = client.get_fetch_names()
    new_data = np.zeros((1, 13)).astype("float32")
    new_data[0] = HOUSE
    fetch_map = client.predict(feed={"x": new_data}, fetch=fetch_list, batch=True)
    if proto:
        (tensor,) = fetch_map.outputs[0].tensor
        alias, numbers, shape = tensor.alias_name, tensor.float_data, tensor.shape
        assert (fetch_map.err_no, fetch_map.err_msg) == (0, "")
    else:
        tensor = fetch_map["outputs"][0]["tensor"][0]
        alias, numbers, shape = tensor["alias_name"], tensor["float_data"], tensor["shape"]
    assert (alias, list(shape)) == ("price", [1, 1])
    np.testing.assert_allclose(numbers, price[0], rtol=1e-5)
    client.close()


def test_a_model_in_the_process_is_asked_in_the_same_way(fit_a_line: Path, price: Any) -> None:
    client = Client()
    client.connect([f"inproc://{fit_a_line}"])
    assert (client.get_feed_names(), client.get_fetch_names()) == (["x"], ["price"])
    np.testing.assert_allclose(client.predict({"x": HOUSE}, "price")["price"], price, rtol=1e-5)
    client.release()
    with pytest.raises(ConfigError, match="not connected"):
        client.predict({"x": HOUSE})


@pytest.mark.parametrize(
    ("feed", "batch"),
    [
        ({"x": HOUSE}, False),
        ({"x": [HOUSE]}, True),
        ({"x": np.array(HOUSE, "float64")}, False),
        ({"x": np.arange(13)}, False),
        (HOUSE, False),
        (np.array(HOUSE, "f4"), False),
        ([{"x": HOUSE}], False),
        ([{"x": HOUSE}, {"x": HOUSE}], False),
    ],
)
def test_feeds_come_in_each_form_and_stay_as_they_were(
    server: Served, fit_a_line: Path, uci_client: Path, feed: Any, batch: bool
) -> None:
    before = repr(feed)
    client, local = Client(), Client()
    client.load_client_config(str(uci_client))
    client.connect(endpoint(server))
    over_http = client.predict(feed, batch=batch)["price"]
    assert repr(feed) == before
    if isinstance(feed, dict) or isinstance(feed[0], dict):
        local.connect(f"inproc://{fit_a_line}")
        np.testing.assert_allclose(over_http, local.predict(feed, batch=batch)["price"], rtol=1e-5)
        local.release()
    assert over_http.flags.writeable
    client.release()


@pytest.mark.parametrize(
    ("feed", "fetch", "words"),
    [
        (None, None, "feed must be a dict"),
        ({}, None, "missing input 'x'"),
        ({"y": HOUSE}, None, "no input 'y'"),
        ({"x": HOUSE}, "rent", "no output 'rent'; the model has price"),
        ({"x": ["a"] * 13}, None, "takes float32"),
        ({"x": [[1, 2], [3]]}, None, "rectangular"),
        ({"x": HOUSE, "x.lod": [0, 1]}, None, "LoD"),
        ([HOUSE, HOUSE], None, "(1, 2, 13)"),
    ],
)
def test_what_does_not_fit_raises_a_sentence(
    server: Served, uci_client: Path, feed: Any, fetch: Any, words: str
) -> None:
    client = Client()
    client.load_client_config(str(uci_client))
    client.connect([endpoint(server)])
    with pytest.raises(InvalidInput) as caught:
        client.predict(feed, fetch)
    assert words in str(caught.value)
    assert client.predict({"x": HOUSE})["price"].shape == (1, 1)
    client.release()


def test_numbers_of_errors_are_raised_as_what_they_mean(doubling_conf: Path) -> None:
    def fail(inputs: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("negative")

    with engine_of(fail) as engine, serving(engine) as served:
        client, http = Client(), HttpClient()
        for one in (client, http):
            one.load_client_config(str(doubling_conf))
            one.connect([endpoint(served)])
        with pytest.raises(ModelError, match=r"negative.*err_no -5100"):
            client.predict({"x": [1, 2, 3]})
        assert http.predict({"x": [1, 2, 3]}).err_no == -5100  # as Paddle Serving's gives it
        client.release()
        http.close()


def test_a_full_server_is_a_full_queue(doubling_conf: Path) -> None:
    gate = Gate()
    with engine_of(gate) as engine, serving(engine, max_inflight=1) as served:
        client = Client()
        client.load_client_config(str(doubling_conf))
        client.connect([endpoint(served)])
        other = threading.Thread(target=client.predict, args=({"x": [1, 2, 3]},))
        other.start()
        gate.wait_entered()
        with pytest.raises(QueueFull, match="-5002"):
            client.predict({"x": [1, 2, 3]})
        gate.open()
        other.join(PATIENCE_S)
        client.release()


def test_compression_works_both_ways(server: Served, uci_client: Path, price: Any) -> None:
    client = HttpClient()
    client.load_client_config(str(uci_client))
    client.set_request_compress(True)
    client.set_response_compress(True)
    client.connect(f"http://{endpoint(server)}")
    houses = np.repeat(np.array([HOUSE], "f4"), 300, 0)
    numbers = client.predict({"x": houses}, batch=True).outputs[0].tensor[0].float_data
    np.testing.assert_allclose(numbers, np.repeat(price[0], 300), rtol=1e-4)
    client.close()


def test_64_threads_through_one_client_get_their_own(doubling_conf: Path) -> None:
    with engine_of() as engine, serving(engine) as served:
        client = Client()
        client.load_client_config(str(doubling_conf))
        client.connect([endpoint(served)])

        def ask(number: int) -> None:
            for _ in range(4):
                assert client.predict({"x": [number] * 3})["y"].tolist() == [[2 * number] * 3]

        run_threads(64, ask)
        client.release()


def test_servers_take_turns_and_one_that_is_gone_is_passed_over(doubling_conf: Path) -> None:
    with engine_of() as first, engine_of() as second, serving(first) as one, serving(second) as two:
        gone = socket.create_server(("127.0.0.1", 0))
        absent = f"127.0.0.1:{gone.getsockname()[1]}"
        gone.close()
        client = Client()
        client.load_client_config(str(doubling_conf))
        client.connect([endpoint(one), absent, endpoint(two)])
        for _ in range(9):
            assert client.predict({"x": [1, 2, 3]})["y"].tolist() == [[2, 4, 6]]
        assert first.stats()["results"] > 0 and second.stats()["results"] > 0
        client.connect([absent])
        with pytest.raises(ConnectionError, match=absent):
            client.predict({"x": [1, 2, 3]})
        client.release()


class OneAnswer:
    """A server that answers each connection's first request with these bytes, and closes it then or not."""

    def __init__(self, answer: bytes, *, closes: bool = True) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.asked = 0
        self._answer, self._closes = answer, closes
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            read_response(connection)
            self.asked += 1
            connection.sendall(self._answer)
            if self._closes:
                connection.close()
            else:
                self._open.append(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)
        for connection in self._open:
            connection.close()


def answered(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def test_a_connection_that_ended_meanwhile_is_replaced(doubling_conf: Path) -> None:
    server = OneAnswer(answered(json.dumps({"err_no": 0, "outputs": []}).encode()))
    client = HttpClient("127.0.0.1", server.port)
    client.load_client_config(str(doubling_conf))
    for _ in range(3):
        assert client.predict({"x": [1, 2, 3]})["err_no"] == 0
    assert server.asked == 3
    client.close()
    server.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "did not answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", "did not answer"),
        (b"\x00\x01", "did not answer"),
        (answered(b'{"error": "an API key is required"}', "401 Unauthorized"), "answers 401.*API key"),
        (answered(b"<html>", "502 Bad Gateway", "text/html"), "answers 502"),
    ],
)
def test_a_server_that_does_not_answer_well_is_a_connection_error(
    doubling_conf: Path, answer: bytes, words: str
) -> None:
    server = OneAnswer(answer)
    client = HttpClient("127.0.0.1", server.port)
    client.load_client_config(str(doubling_conf))
    with pytest.raises(ConnectionError, match=words):
        client.predict({"x": [1, 2, 3]})
    client.close()
    server.close()


def test_a_server_that_is_silent_is_waited_for_no_longer_than_asked(doubling_conf: Path) -> None:
    server = OneAnswer(b"", closes=False)
    client = HttpClient("127.0.0.1", server.port)
    client.load_client_config(str(doubling_conf))
    client.set_timeout_ms(50)
    with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
        client.predict({"x": [1, 2, 3]})
    client.close()
    server.close()


@pytest.mark.parametrize("timeout_ms", [1 << 32, (1 << 63) - 1])
def test_the_longest_timeouts_are_no_deadlines_that_have_passed(
    server: Served, uci_client: Path, timeout_ms: int
) -> None:
    client = HttpClient()
    client.load_client_config(str(uci_client))
    client.set_timeout_ms(timeout_ms)
    client.connect([endpoint(server)])
    for _ in range(2):  # by a new connection, and by a kept one
        assert client.predict({"x": HOUSE}, ["price"]).err_no == 0
    client.close()


def test_a_client_that_nobody_closes_leaves_no_connection(server: Served, uci_client: Path) -> None:
    client = HttpClient()
    client.load_client_config(str(uci_client))
    client.connect(endpoint(server))
    client.predict({"x": HOUSE})
    (connection,) = client._connections._idle
    del client
    assert connection.sock is None


def test_headers_of_ones_own_are_sent(doubling_conf: Path) -> None:
    with engine_of() as engine, serving(engine, api_key="k") as served:
        client = HttpClient()
        client.load_client_config(str(doubling_conf))
        client.connect(endpoint(served))
        with pytest.raises(ConnectionError, match="401"):
            client.predict({"x": [1, 2, 3]})
        client.add_http_headers({"Authorization": "Bearer k"})
        assert client.predict({"x": [1, 2, 3]}).err_no == 0
        client.close()


def test_a_profiled_prediction_is_a_line(
    server: Served, uci_client: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAGS_profile_client", "1")
    client = Client()
    client.load_client_config(str(uci_client))
    client.connect([endpoint(server)])
    client.predict({"x": HOUSE})
    client.release()
    assert [[stage.name for stage in line] for line in read(capsys.readouterr().err.splitlines()).lines] == [
        ["py_client_infer"]
    ]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Client().predict({"x": HOUSE}), "not connected"),
        (lambda: Client().get_fetch_names(), "load_client_config"),
        (lambda: HttpClient().predict({"x": HOUSE}), "load_client_config"),
        (lambda: Client().connect(), "endpoints are a list"),
        (lambda: Client().connect([9393]), "endpoints are a list"),
        (lambda: Client().connect(["nowhere"]), "HOST:PORT"),
        (lambda: Client().connect(["a:99999"]), "HOST:PORT"),
        (lambda: Client().connect(["inproc://a", "b:1"]), "beside other endpoints"),
        (lambda: Client().connect(["a:1"], encryption=True), "encryption=True is not offered"),
        (lambda: HttpClient().connect("a:1", encryption=True), "encryption=True is not offered"),
        (lambda: HttpClient().connect(["a:1", "b:1"]), "one server, and 2"),
        (lambda: Client().predict({}, need_variant_tag=True), "need_variant_tag=True needs variants"),
        (lambda: HttpClient().predict({}, need_variant_tag=True), "need_variant_tag=True is not offered"),
        (lambda: Client().load_client_config("/nowhere"), "paddleinfer convert"),
        (lambda: Client().load_client_config([]), "a path or a list of paths"),
        (lambda: Client().load_client_config(3), "a path or a list of paths"),
        (lambda: Client().set_rpc_timeout_ms(0), "rpc_timeout"),
        (lambda: HttpClient().set_timeout_ms(1.5), "timeout_ms"),
        (lambda: HttpClient().set_max_retries(-1), "retry_times"),
        (lambda: HttpClient().set_max_body_size("1"), "max_body_size"),
        (lambda: HttpClient().set_http_proto(1), "http_proto"),
        (lambda: HttpClient().set_service_name("inference"), "begins with /"),
        (lambda: HttpClient().add_http_headers("a"), "headers must be a dict"),
    ],
)
def test_a_call_that_cannot_be_is_refused_in_a_sentence(call: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call()


def test_a_request_beyond_the_clients_own_limit_is_not_sent(server: Served, uci_client: Path) -> None:
    client = HttpClient()
    client.load_client_config(str(uci_client))
    client.connect(endpoint(server))
    client.set_max_body_size(50)
    with pytest.raises(InvalidInput, match="set_max_body_size allows 50"):
        client.predict({"x": HOUSE})
    client.close()


# Variants


def test_variants_share_requests_by_weight_and_say_who_answered(doubling_conf: Path) -> None:
    def times(factor: int) -> Engine:
        return engine_of(lambda inputs: {"y": inputs["x"] * factor})

    with times(2) as two, times(3) as three, serving(two) as first, serving(three) as second:
        client = Client()
        client.load_client_config(str(doubling_conf))
        client.add_variant("two", [endpoint(first)], 3)
        client.add_variant("three", [endpoint(second)], 1)
        client.connect()
        answers = [
            client.predict({"x": np.ones((1, 3), "float32")}, batch=True, need_variant_tag=True)
            for _ in range(8)
        ]
        assert [tag for _, tag in answers] == 2 * ["two", "two", "three", "two"]
        assert {(float(answer["y"][0, 0]), tag) for answer, tag in answers} == {(2, "two"), (3, "three")}
        assert list(client.predict({"x": np.ones((1, 3), "float32")}, batch=True)) == ["y"]
        client.release()


@pytest.mark.parametrize(
    ("tag", "cluster", "weight", "sentence"),
    [
        ("a", [], 1, "endpoints are a list such as"),
        ("a", ["127.0.0.1:1"], -1, "variant_weight must be an integer from 0"),
        ("a", ["127.0.0.1:1"], 1.5, "variant_weight must be an integer from 0"),
        ("", ["127.0.0.1:1"], 1, "tag must be a name"),
        ("there", ["127.0.0.1:1"], 1, "there is a variant 'there' already"),
        ("a", ["inproc://model"], 1, "a variant is of servers"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(tag: str, cluster: Any, weight: Any, sentence: str) -> None:
    client = Client()
    client.add_variant("there", "127.0.0.1:1", 0)
    with pytest.raises(ConfigError, match=sentence):
        client.add_variant(tag, cluster, weight)
    with pytest.raises(ConfigError, match="at least one variant needs a variant_weight above 0"):
        client.connect()
    with pytest.raises(ConfigError, match=r"call connect\(\) without any"):
        client.connect(["127.0.0.1:1"])
