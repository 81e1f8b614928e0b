"""Paddle Serving's clients: which servers they ask, for how long, and what a bad answer is."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, engine_of
from http_helpers import Served, read_response, serving
from serving_models import HOUSE

from paddleinfer import Engine
from paddleinfer.errors import ConfigError, DeadlineExceeded
from paddleinfer.serving import Client, HttpClient


def test_servers_take_turns_and_one_that_is_gone_is_passed_over(doubling_conf: Path) -> None:
    with engine_of() as first, engine_of() as second, serving(first) as one, serving(second) as two:
        gone = socket.create_server(("127.0.0.1", 0))
        absent = f"127.0.0.1:{gone.getsockname()[1]}"
        gone.close()
        client = Client()
        client.load_client_config(str(doubling_conf))
        client.connect([one.address, absent, two.address])
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
    uci_server: Served, uci_client: Path, timeout_ms: int
) -> None:
    client = HttpClient()
    client.load_client_config(str(uci_client))
    client.set_timeout_ms(timeout_ms)
    client.connect([uci_server.address])
    for _ in range(2):  # by a new connection, and by a kept one
        assert client.predict({"x": HOUSE}, ["price"]).err_no == 0
    client.close()


def test_a_client_that_nobody_closes_leaves_no_connection(uci_server: Served, uci_client: Path) -> None:
    client = HttpClient()
    client.load_client_config(str(uci_client))
    client.connect(uci_server.address)
    client.predict({"x": HOUSE})
    (connection,) = client._connections._idle
    del client
    assert connection.sock is None


def test_headers_of_ones_own_are_sent(doubling_conf: Path) -> None:
    with engine_of() as engine, serving(engine, api_key="k") as served:
        client = HttpClient()
        client.load_client_config(str(doubling_conf))
        client.connect(served.address)
        with pytest.raises(ConnectionError, match="401"):
            client.predict({"x": [1, 2, 3]})
        client.add_http_headers({"Authorization": "Bearer k"})
        assert client.predict({"x": [1, 2, 3]}).err_no == 0
        client.close()


def test_variants_share_requests_by_weight_and_say_who_answered(doubling_conf: Path) -> None:
    def times(factor: int) -> Engine:
        return engine_of(lambda inputs: {"y": inputs["x"] * factor})

    with times(2) as two, times(3) as three, serving(two) as first, serving(three) as second:
        client = Client()
        client.load_client_config(str(doubling_conf))
        client.add_variant("two", [first.address], 3)
        client.add_variant("three", [second.address], 1)
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
