"""Bytes that no client sends by mistake, over a real socket; after each the server still answers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import orjson
import pytest
from engine_helpers import Gate, engine_of, eventually, rows
from http_helpers import INFER, Served, binary_body, binary_tensor, json_tensor, read_response, serving

from paddleinfer.shim.http.protocol import MAX_HEADER_BYTES, MAX_HEADERS

BODY = orjson.dumps({"inputs": [json_tensor("x", rows())]})
HEAD = f"POST {INFER} HTTP/1.1\r\nHost: t\r\n".encode()


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with engine_of() as engine, serving(engine, max_body_bytes=100_000) as server:
        yield server


def whole(body: bytes = BODY, headers: bytes = b"") -> bytes:
    return HEAD + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def status_of(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


@pytest.fixture(autouse=True)
def still_answers(server: Served) -> Iterator[None]:
    yield
    assert status_of(server.exchange(whole())) == 200


def refused(response: bytes, status: int) -> None:
    assert status_of(response) == status
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"application/json" in head
    assert list(orjson.loads(body)) == ["error"]


def test_what_is_no_http_is_refused_in_json(server: Served) -> None:
    refused(server.exchange(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400)


def test_headers_without_end_are_refused(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD)
        response = b""
        try:
            for _ in range(100):
                connection.sendall(b"X-Filler: " + b"x" * (MAX_HEADER_BYTES // 10) + b"\r\n")
        except OSError:
            pass  # closed while we were sending
        try:
            response = read_response(connection)
        except ConnectionError:
            return
    if response:
        refused(response, 431)


def test_one_header_without_end_is_refused(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD + b"X-Filler: ")
        sent = 0
        with pytest.raises(OSError):
            while sent < 1000 * MAX_HEADER_BYTES:
                connection.sendall(b"x" * MAX_HEADER_BYTES)
                sent += MAX_HEADER_BYTES
        assert sent < 1000 * MAX_HEADER_BYTES


def test_more_headers_than_a_request_has_are_refused(server: Served) -> None:
    refused(server.exchange(HEAD + b"a:\r\n" * MAX_HEADERS + b"\r\n"), 431)


def test_as_many_headers_as_a_request_may_have_are_taken(server: Served) -> None:
    assert status_of(server.exchange(whole(headers=b"a:\r\n" * (MAX_HEADERS - 2)))) == 200


def test_a_body_in_chunks_of_a_byte_arrives_as_it_was_sent(server: Served) -> None:
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(2 * (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks))
        received = b""
        while received.count(b'"outputs"') < 2:
            part = connection.recv(1 << 16)
            assert part, received
            received += part
    assert received.count(b"HTTP/1.1 200") == 2


def test_headers_in_two_pieces_do_not_count_the_body(server: Served) -> None:
    body = BODY + b" " * 90_000
    request = whole(body)
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request[:40])
        assert status_of(server.exchange(whole())) == 200  # so the first piece has been read
        connection.sendall(request[40:])
        assert status_of(read_response(connection)) == 200


def test_thousands_of_requests_at_once_are_all_answered(server: Served) -> None:
    count = 3000
    with server.connect() as connection:
        sending = threading.Thread(target=connection.sendall, args=(count * whole(),))
        sending.start()
        received = b""
        answered = 0
        while answered < count:
            part = connection.recv(1 << 20)
            assert part
            received += part
            answered += received.count(b"HTTP/1.1 200")
            received = received[-12:] if b"HTTP/1.1 200" not in received[-12:] else b""
        sending.join()


def test_trailers_without_end_are_refused(server: Served) -> None:
    parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY,)) + b"0\r\n"
    with server.connect() as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + parts)
        sent = 0
        with pytest.raises(OSError):
            while sent < 1000 * MAX_HEADER_BYTES:
                connection.sendall(b"".join(b"X-%d: a\r\n" % number for number in range(2000)))
                sent += 20_000
    assert sent < 1000 * MAX_HEADER_BYTES


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade"])
def test_an_upgrade_is_ignored(server: Served, name: bytes) -> None:
    headers = b"Connection: Upgrade, HTTP2-Settings\r\n" + name + b": h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    assert status_of(server.exchange(whole(headers=headers))) == 200


@pytest.mark.parametrize("count", [4, 6000])
def test_a_body_that_looks_like_an_upgrade_arrives_as_it_was_sent(count: int) -> None:
    tensor = b"\r\nUpgrade:a " * count  # three floats
    x = np.frombuffer(tensor, "float32").reshape(count, 3)
    body, fields = binary_body({"inputs": [binary_tensor("x", x)]}, x)
    headers = b"".join(f"{name}: {value}\r\n".encode() for name, value in fields.items())
    seen = []

    def look(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append(inputs["x"].tobytes())
        return {"y": inputs["x"]}

    request = whole(body, headers)
    with (
        engine_of(look, batchable=False, max_queue_rows=count) as engine,
        serving(engine) as server,
        server.connect() as connection,
    ):
        begin = request.index(b"\r\n\r\n") + 4
        for piece in (request[:begin], request[begin:]):
            connection.sendall(piece)
            time.sleep(0.05)  # so that it comes in a piece of its own; the test holds either way
        assert status_of(read_response(connection)) == 200
    assert seen == [tensor]


@pytest.mark.parametrize("sent", [b"", HEAD, whole()[:-5]])
def test_a_client_that_falls_silent_is_closed(sent: bytes) -> None:
    """On the real clock: the server looks every second."""
    with engine_of() as engine, serving(engine, read_timeout_s=0.1) as server, server.connect() as connection:
        connection.sendall(sent)
        refused(read_response(connection), 408)
        assert connection.recv(1) == b""


def test_a_content_length_over_the_limit_is_refused_before_the_body_comes(server: Served) -> None:
    refused(server.exchange(HEAD + b"Content-Length: 1000000000000\r\n\r\n"), 413)


@pytest.mark.parametrize("length", [b"-1", b"1e9", b"9" * 26, b"9" * 4301, b"0" * 4300 + b"7"])
def test_a_content_length_that_is_no_number_is_refused(server: Served, length: bytes) -> None:
    refused(server.exchange(HEAD + b"Content-Length: " + length + b"\r\n\r\n"), 400)


def test_chunks_over_the_limit_are_refused(server: Served) -> None:
    chunk = b"ffff\r\n" + b" " * 0xFFFF + b"\r\n"
    refused(server.exchange(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + 3 * chunk), 413)


def test_a_chunk_whose_length_lies_is_refused(server: Served) -> None:
    request = HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"
    refused(server.exchange(request), 400)


def test_chunks_are_understood(server: Served) -> None:
    half = len(BODY) // 2
    parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:half], BODY[half:], b""))
    assert status_of(server.exchange(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + parts)) == 200


def test_a_slow_body_keeps_nobody_waiting(server: Served) -> None:
    """On the real clock, as a slow client is."""
    with server.connect() as slow:
        slow.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[:5])
        for byte in BODY[5:]:
            assert status_of(server.exchange(whole())) == 200
            slow.sendall(bytes([byte]))
        assert status_of(read_response(slow)) == 200


def test_a_client_that_closes_its_half_is_answered_or_closed(server: Served) -> None:
    with server.connect() as connection:
        connection.sendall(whole())
        connection.shutdown(socket.SHUT_WR)
        response = read_response(connection)
    assert response == b"" or status_of(response) == 200


def test_clients_that_leave_in_the_middle_leave_nothing_behind(server: Served) -> None:
    for length in (3, len(HEAD), len(HEAD) + 20, len(whole()) - 1, len(whole())):
        for _ in range(20):
            with server.connect() as connection:
                connection.sendall(whole()[:length])


def test_requests_that_come_together_are_answered_in_order(server: Served) -> None:
    bodies = [orjson.dumps({"id": str(turn), "inputs": [json_tensor("x", rows())]}) for turn in range(5)]
    with server.connect() as connection:
        connection.sendall(b"".join(whole(body) for body in bodies))
        received = b""
        while received.count(b'"id":') < len(bodies):
            part = connection.recv(1 << 16)
            assert part
            received += part
    places = [received.index(b'"id":"%d"' % turn) for turn in range(5)]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "path", ["/v2/models/%00/infer", "/v2/models/..%2f..%2fetc/infer", "/v2/models/" + "x" * 9000]
)
def test_paths_that_lead_nowhere_are_not_found(server: Served, path: str) -> None:
    response = server.exchange(f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    refused(response, 404 if path.endswith("infer") else 405)


def test_a_client_that_leaves_has_its_request_cancelled_before_it_runs() -> None:
    gate = Gate()
    with engine_of(gate, batchable=True, max_batch_size=1) as engine, serving(engine) as server:
        first = engine.submit({"x": rows(value=1)})
        gate.wait_entered()
        with server.connect() as leaving:
            leaving.sendall(whole(orjson.dumps({"inputs": [json_tensor("x", rows(value=2))]})))
            assert eventually(lambda: engine.stats()["queued_requests"] == 1)
        assert eventually(lambda: engine.stats()["cancelled"] == 1)
        gate.open()
        first.result()
        assert engine.infer({"x": rows(value=3)})
        assert gate.ran == [1, 3]
