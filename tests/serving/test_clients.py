"""Paddle Serving's clients: they ask this server, and a model in the process, with their own names."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Gate, engine_of, run_threads
from http_helpers import Served, serving
from serving_models import HOUSE

from paddleinfer.errors import ConfigError, InvalidInput, ModelError, QueueFull
from paddleinfer.serving import Client, HttpClient
from paddleinfer.tracing.paddle_profile import read

# The documented snippets


def test_the_documented_client_gets_the_documented_answer(
    uci_server: Served, uci_client: Path, price: float
) -> None:
    client = Client()
    client.load_client_config(str(uci_client / "serving_client_conf.prototxt"))
    client.connect([uci_server.address])
    fetch_list = client.get_fetch_names()
    new_data = np.zeros((1, 13)).astype("float32")
    new_data[0] = HOUSE
    fetch_map = client.predict(feed={"x": new_data}, fetch=fetch_list, batch=True)
    assert list(fetch_map) == ["price"] and fetch_map["price"].dtype == np.float32
    np.testing.assert_allclose(fetch_map["price"], [[price]], rtol=1e-5)
    client.release()


@pytest.mark.parametrize("proto", [True, False])
def test_the_documented_http_client_gets_the_documented_answer(
    uci_server: Served, uci_client: Path, price: float, proto: bool
) -> None:
    client = HttpClient()
    client.load_client_config(str(uci_client))
    client.set_http_proto(proto)
    client.connect([uci_server.address])
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
    np.testing.assert_allclose(numbers, [price], rtol=1e-5)
    client.close()


def test_a_model_in_the_process_is_asked_in_the_same_way(fit_a_line: Path, price: float) -> None:
    client = Client()
    client.connect([f"inproc://{fit_a_line}"])
    assert (client.get_feed_names(), client.get_fetch_names()) == (["x"], ["price"])
    np.testing.assert_allclose(client.predict({"x": HOUSE}, "price")["price"], [[price]], rtol=1e-5)
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
    uci_server: Served, fit_a_line: Path, uci_client: Path, feed: Any, batch: bool
) -> None:
    before = repr(feed)
    client, local = Client(), Client()
    client.load_client_config(str(uci_client))
    client.connect(uci_server.address)
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
    uci_server: Served, uci_client: Path, feed: Any, fetch: Any, words: str
) -> None:
    client = Client()
    client.load_client_config(str(uci_client))
    client.connect([uci_server.address])
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
            one.connect([served.address])
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
        client.connect([served.address])
        other = threading.Thread(target=client.predict, args=({"x": [1, 2, 3]},))
        other.start()
        gate.wait_entered()
        with pytest.raises(QueueFull, match="-5002"):
            client.predict({"x": [1, 2, 3]})
        gate.open()
        other.join(PATIENCE_S)
        client.release()


def test_compression_works_both_ways(uci_server: Served, uci_client: Path, price: float) -> None:
    client = HttpClient()
    client.load_client_config(str(uci_client))
    client.set_request_compress(True)
    client.set_response_compress(True)
    client.connect(f"http://{uci_server.address}")
    houses = np.repeat(np.array([HOUSE], "f4"), 300, 0)
    numbers = client.predict({"x": houses}, batch=True).outputs[0].tensor[0].float_data
    np.testing.assert_allclose(numbers, price, rtol=1e-4)
    client.close()


def test_64_threads_through_one_client_get_their_own(doubling_conf: Path) -> None:
    with engine_of() as engine, serving(engine) as served:
        client = Client()
        client.load_client_config(str(doubling_conf))
        client.connect([served.address])

        def ask(number: int) -> None:
            for _ in range(4):
                assert client.predict({"x": [number] * 3})["y"].tolist() == [[2 * number] * 3]

        run_threads(64, ask)
        client.release()


def test_a_profiled_prediction_is_a_line(
    uci_server: Served, uci_client: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAGS_profile_client", "1")
    client = Client()
    client.load_client_config(str(uci_client))
    client.connect([uci_server.address])
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


def test_a_request_beyond_the_clients_own_limit_is_not_sent(uci_server: Served, uci_client: Path) -> None:
    client = HttpClient()
    client.load_client_config(str(uci_client))
    client.connect(uci_server.address)
    client.set_max_body_size(50)
    with pytest.raises(InvalidInput, match="set_max_body_size allows 50"):
        client.predict({"x": HOUSE})
    client.close()
