"""Requests with the head of the one before: they are not parsed again, and no client can tell."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

import httptools
import numpy as np
import orjson
import pytest
from engine_helpers import Gate, engine_of, rows
from http_helpers import INFER, Served, json_tensor, read_response, serving
from hypothesis import given
from hypothesis import strategies as st

from paddleinfer.shim.http import protocol
from paddleinfer.shim.http.fast_path import AskedModel
from paddleinfer.shim.http.repeated_head import RepeatedHead

_REFUSALS = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def body(value: float = 0.0, more: bytes = b"") -> bytes:
    return orjson.dumps({"inputs": [json_tensor("x", rows() + np.float32(value))]}) + more


def post(sent: bytes, headers: bytes = b"", length: bytes | None = None) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: t\r\n%bContent-Length: %b\r\nA: b\r\n\r\n"
    return head % (INFER.encode(), headers, b"%d" % len(sent) if length is None else length) + sent


@pytest.fixture
def server() -> Iterator[Served]:
    with engine_of() as engine, serving(engine) as server:
        yield server


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The methods of the heads that were checked."""
    methods: list[bytes] = []
    check = protocol.check_head

    def noted(method: bytes, *rest: object) -> None:
        methods.append(method)
        check(method, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(protocol, "check_head", noted)
    return methods


def status_of(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


def output_of(response: bytes) -> list[float]:
    return list(orjson.loads(response.partition(b"\r\n\r\n")[2])["outputs"][0]["data"])


def test_a_head_that_comes_again_is_parsed_once(server: Served, parsed: list[bytes]) -> None:
    with server.connect() as connection:
        first = []
        for number in range(4):
            connection.sendall(post(body(float(number), b" " * number)))
            first.append(output_of(read_response(connection))[0])
    assert len(parsed) == 1
    assert np.diff(first).tolist() == [first[1] - first[0]] * 3 and first[1] != first[0]


@pytest.mark.parametrize(
    "other",
    [
        post(body(), b"Accept-Encoding: gzip\r\n"),
        post(body()).replace(b"A: b", b"A: c"),
        post(body()).replace(b"POST", b"GET"),
        post(body()).replace(b"Host: t", b"Host: u"),
    ],
)
def test_any_other_head_is_parsed(server: Served, parsed: list[bytes], other: bytes) -> None:
    with server.connect() as connection:
        for request in (post(body()), other, post(body()), post(body())):
            connection.sendall(request)
            read_response(connection)
    assert len(parsed) >= 2


@pytest.mark.parametrize("length", [b"", b"-1", b"+5", b"1_0", b"0x5", b"5 5", b"5,5", b"9" * 30])
def test_a_length_that_is_none_is_refused_also_behind_a_head_that_was_good(
    server: Served, length: bytes
) -> None:
    with server.connect() as connection:
        connection.sendall(post(body()))
        assert status_of(read_response(connection)) == HTTPStatus.OK
        connection.sendall(post(b"abcde", length=length))
        assert status_of(read_response(connection)) in (
            HTTPStatus.BAD_REQUEST,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )


@pytest.mark.parametrize("cut", [1, 40, -30, -1])
def test_a_repeated_request_in_two_pieces_is_answered(server: Served, cut: int) -> None:
    with server.connect() as connection:
        for _ in range(3):
            request = post(body())
            connection.sendall(request[:cut])
            connection.sendall(request[cut:])
            assert status_of(read_response(connection)) == HTTPStatus.OK


def test_repeated_requests_that_come_together_are_answered_in_order(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(post(body()))
        expected = [output_of(read_response(connection))]
        connection.sendall(post(body(1.0)) + post(body(2.0)))
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 2 or not received.endswith(b"}"):
            received += connection.recv(1 << 16)
    both = [orjson.loads(part.partition(b"\r\n\r\n")[2]) for part in received.split(b"HTTP/1.1 200 OK")[1:]]
    values = [expected[0][0], *(answer["outputs"][0]["data"][0] for answer in both)]
    assert values == sorted(values) and len(set(values)) == 3


def test_a_body_that_looks_like_a_head_is_none(server: Served) -> None:
    """Else whoever shares a proxy's connection might make a head of others' requests."""
    inner = body()
    fake = b"GET /v2/live HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner
    whole = post(fake)
    head = len(whole) - len(fake)
    with server.connect() as connection:
        connection.sendall(whole[:head])
        connection.sendall(whole[head:])
        assert status_of(read_response(connection)) == HTTPStatus.BAD_REQUEST  # it is not JSON
        connection.sendall(fake)
        assert status_of(read_response(connection)) == HTTPStatus.BAD_REQUEST  # it has no Host


def test_the_end_of_a_body_with_a_request_behind_it_is_no_head(server: Served) -> None:
    inner = post(body())
    fake = b"X\r\nContent-Length: %d\r\n\r\n" % len(inner)
    whole = post(b"{" + fake)
    with server.connect() as connection:
        connection.sendall(whole[: -len(fake)])
        connection.sendall(fake + inner)
        assert status_of(read_response(connection)) == HTTPStatus.BAD_REQUEST
        connection.sendall(fake + inner)
        received = b""
        while b"400 Bad Request" not in received:
            part = connection.recv(1 << 16)
            assert part, received
            received += part


def test_a_repeated_request_is_refused_while_there_is_no_room() -> None:
    gate = Gate()
    with (
        engine_of(gate, max_batch_size=1) as engine,
        serving(engine, max_inflight=1) as server,
        server.connect() as first,
        server.connect() as second,
    ):
        gate.open()
        first.sendall(post(body()))
        assert status_of(read_response(first)) == HTTPStatus.OK
        gate.shut()
        second.sendall(post(body()))
        gate.wait_entered()
        first.sendall(post(body()))
        assert status_of(read_response(first)) == HTTPStatus.TOO_MANY_REQUESTS
        gate.open()
        assert status_of(read_response(second)) == HTTPStatus.OK


def test_a_repeated_request_to_an_engine_that_was_closed_is_told_so() -> None:
    with engine_of() as engine, serving(engine) as server, server.connect() as connection:
        connection.sendall(post(body()))
        assert status_of(read_response(connection)) == HTTPStatus.OK
        engine.close()
        connection.sendall(post(body()))
        assert status_of(read_response(connection)) == HTTPStatus.SERVICE_UNAVAILABLE


class _Parsed:
    """What httptools makes of a piece."""

    def __init__(self, data: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = self.body = b""
        self.whole = 0
        httptools.HttpRequestParser(self).feed_data(data)

    @property
    def others(self) -> list[tuple[bytes, bytes]]:
        """The headers without the length."""
        return [field for field in self.headers if field[0] != b"content-length"]

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, part: bytes) -> None:
        self.body += part

    def on_message_complete(self) -> None:
        self.whole += 1


_VALUES = st.binary(max_size=12).map(
    lambda value: bytes(byte for byte in value if byte > 0x20 and byte < 0x7F)
)
_NAMES = st.sampled_from([b"A", b"Accept", b"content-length2", b"X-Content-Length"])


@given(
    fields=st.lists(st.tuples(_NAMES, _VALUES), max_size=4),
    place=st.integers(0, 4),
    spelling=st.sampled_from([b"Content-Length: ", b"content-length:", b"CONTENT-LENGTH:\t"]),
    bodies=st.lists(st.binary(max_size=40), min_size=1, max_size=3),
)
def test_a_repeated_head_is_what_the_parser_says(
    fields: list[tuple[bytes, bytes]], place: int, spelling: bytes, bodies: list[bytes]
) -> None:
    lines = [name + b": " + value for name, value in fields]

    def request(sent: bytes) -> bytes:
        here = [*lines[:place], spelling + b"%d" % len(sent), *lines[place:]]
        return b"POST /m HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in here) + b"\r\n" + sent

    first = request(bodies[0])
    head = RepeatedHead.of(first, {}, AskedModel("m", None))
    assert head is not None
    for sent in bodies:
        known, anew = _Parsed(first), _Parsed(request(sent))
        assert head.body_of(request(sent)) == anew.body == sent
        assert known.others == anew.others


@given(
    change=st.binary(max_size=3),
    at=st.integers(0, 80),
    cut=st.integers(0, 3),
    more=st.binary(max_size=3),
)
def test_a_changed_request_has_the_head_only_if_the_parser_finds_the_same_in_it(
    change: bytes, at: int, cut: int, more: bytes
) -> None:
    first = b"POST /m HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nA: b\r\n\r\nabcde"
    head = RepeatedHead.of(first, {}, AskedModel("m", None))
    assert head is not None
    changed = first[:at] + change + first[at + cut :] + more
    found = head.body_of(changed)
    if found is None:
        return
    known, anew = _Parsed(first), _Parsed(changed)
    assert anew.whole == 1 and anew.body == found and anew.url == known.url
    others = [
        [field for field in parsed.headers if field[0] != b"content-length"] for parsed in (known, anew)
    ]
    assert others[0] == others[1]


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /m HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcd",
        b"POST /m HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcdef",
        b"POST /m HTTP/1.1\r\nContent-Length: 5\r\n",
        b"POST /m HTTP/1.1\r\n\r\n",
        b"POST /m HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"",
    ],
)
def test_only_a_whole_request_alone_gives_a_head(request_: bytes) -> None:
    assert RepeatedHead.of(request_, {}, AskedModel("m", None)) is None
