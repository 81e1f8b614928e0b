"""Where a request ends and the next begins: one rule, whichever handler takes it and however it is cut."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from engine_helpers import engine_of
from http_helpers import INFER, Served, serving
from raw_http import BODY, HANDLERS, answers, get, post, send_apart, sentence

CLOSE = b"Connection: close\r\n"
LAST = get("/v2/health/live", CLOSE)
# A body that would be answered if it were taken for a request.
HIDDEN = get("/v2/models/hidden")
UPGRADES = [b"Upgrade", b"upgrade", b"UpGrade", b"UPGRADE", b"uPGRADE"]


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with engine_of() as engine, serving(engine) as server:
        yield server


def asked(server: Served, *pieces: bytes) -> list[tuple[int, bytes]]:
    with server.connect() as connection:
        send_apart(connection, pieces)
        return answers(connection)


def upgrading(name: bytes, body: bytes) -> bytes:
    """As curl's --http2 and Java's client send it with their first request."""
    headers = b"Connection: Upgrade, HTTP2-Settings\r\n" + name + b": h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    return post(headers, body)


@pytest.mark.parametrize("name", UPGRADES)
def test_an_upgrade_is_ignored_and_the_body_stays_a_body(server: Served, name: bytes) -> None:
    assert [status for status, _ in asked(server, upgrading(name, BODY) + LAST)] == [200, 200]
    hidden, last = asked(server, upgrading(name, HIDDEN) + LAST)
    assert "not JSON" in sentence(hidden)
    assert last == (200, b'{"live":true}')


@pytest.mark.parametrize("name", UPGRADES)
def test_an_upgrade_that_is_cut_into_packets_anywhere_is_ignored(server: Served, name: bytes) -> None:
    request = upgrading(name, HIDDEN)
    places = [
        request.index(name),
        request.index(name) + 3,
        request.index(b": h2c"),
        request.index(b"h2c") + 1,
    ]
    for place in (*places, request.index(HIDDEN) - 2, request.index(HIDDEN), request.index(HIDDEN) + 5):
        hidden, last = asked(server, request[:place], request[place:], LAST)
        assert "not JSON" in sentence(hidden)
        assert last[0] == 200


def test_an_upgrade_of_the_second_pipelined_request_is_ignored(server: Served) -> None:
    for headers in HANDLERS.values():
        for cut in (0, len(HIDDEN)):
            request = post(headers) + upgrading(b"Upgrade", HIDDEN)
            pieces = [request[: len(request) - cut], request[len(request) - cut :] + LAST]
            first, hidden, last = asked(server, *pieces)
            assert (first[0], last[0]) == (200, 200)
            assert "not JSON" in sentence(hidden)


def test_an_upgrade_with_chunks_is_ignored(server: Served) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: h2c\r\n" % INFER.encode()
    chunks = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    assert [status for status, _ in asked(server, head + chunks + LAST)] == [200, 200]


def test_a_websocket_is_not_begun(server: Served) -> None:
    headers = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n"
    assert [status for status, _ in asked(server, get("/v2/health/live", headers) + LAST)] == [200, 200]


REFUSED = [
    (b"Host: t\r\n", b"Transfer-Encoding: gzip, chunked\r\n", 501, "Transfer-Encoding must be chunked alone"),
    (b"Host: t\r\n", b"Transfer-Encoding: identity\r\n", 501, "Transfer-Encoding must be chunked alone"),
    (b"", b"", 400, "no Host header"),
    (b"Host: t\r\nHost: t\r\n", b"", 400, "more than one Host header"),
    (b"Host: t\r\nhost: u\r\n", b"", 400, "more than one Host header"),
    (b"Host: a b\r\n", b"", 400, "HOST or HOST:PORT"),
    (b"Host: t/v2\r\n", b"", 400, "HOST or HOST:PORT"),
    (b"Host: u@t\r\n", b"", 400, "HOST or HOST:PORT"),
    (b"Host: t\r\n", b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n", 400, "more than one Auth"),
    (
        b"Host: t\r\n",
        b"Content-Encoding: gzip\r\nContent-Encoding: identity\r\n",
        400,
        "more than one Content-E",
    ),
    (
        b"Host: t\r\n",
        b"Inference-Header-Content-Length: 0\r\nInference-Header-Content-Length: 2\r\n",
        400,
        "more than one Inference-Header-Content-Length header",
    ),
    (b"Host: t\r\n", b"X: y\r\n" * 200, 431, "too large"),
]


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize(("host", "headers", "status", "says"), REFUSED)
def test_a_head_with_two_meanings_is_refused_and_ends_the_connection(
    server: Served, handler: str, host: bytes, headers: bytes, status: int, says: str
) -> None:
    other = b"" if b"Content-Encoding" in headers else HANDLERS[handler]
    if b"Transfer" in headers:
        request = b"POST %b HTTP/1.1\r\n" % INFER.encode() + host + headers + other + b"\r\n"
        request += b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    else:
        request = post(headers + other, host=host)
    (answer,) = asked(server, request + LAST)
    assert answer[0] == status
    assert says in sentence(answer)


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5, 5\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length:\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"X: y\n Transfer-Encoding: chunked\r\n",
    ],
)
def test_lengths_of_which_readers_differ_are_refused_and_end_the_connection(
    server: Served, lengths: bytes
) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: t\r\n%b\r\n0\r\n\r\n" % (INFER.encode(), lengths)
    (answer,) = asked(server, head + LAST)
    assert answer[0] in (400, 501)
    assert sentence(answer)


START = b"GET / HTTP/1.1\r\nHost: t\r\n"


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (
            START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length",
        ),
        (START + b"Content-Length: x\r\n", "Content-Length"),
        (
            START + b"Content-Length: %b2\r\n" % (b"0" * 5000),
            "Content-Length must be a num",
        ),
        (START + b"Content-Length: 1%b\r\n" % (b"0" * 18), "of 18 digits at most"),
        (b"GET / HTTP/1.1\nHost: t\n", "CRLF"),
        (b"GET / HTTP/1.1\r\nHost : t\r\n", "header token"),
        (START + b" folded\r\n", "whitespace"),
        (b"GET / HTTP/1.2\r\nHost: t\r\n", "version"),
        (b"GRAB / HTTP/1.1\r\nHost: t\r\n", "method"),
        (b"GET /\xff HTTP/1.1\r\nHost: t\r\n", "path"),
        (b"GET http://t HTTP/1.1\r\nHost: t\r\n", "must be a path"),
        (b"GET ftp://t/ HTTP/1.1\r\nHost: t\r\n", "must be a path"),
        (b"OPTIONS *a HTTP/1.1\r\nHost: t\r\n", "must be a path"),
        (b"GET http://u/v2 HTTP/1.1\r\nHost: t\r\n", "another host"),
        (b"GET http://t@u/v2 HTTP/1.1\r\nHost: t\r\n", "another host"),
    ],
)
def test_a_head_that_is_refused_is_told_what_is_wrong_with_it(server: Served, head: bytes, says: str) -> None:
    (answer,) = asked(server, head + b"\r\n" + LAST)
    assert answer[0] == 400
    assert says in sentence(answer)


@pytest.mark.parametrize("target", ["http://t/v2/health/live", "HTTPS://T/v2/health/live"])
def test_a_url_of_the_host_is_answered_as_its_path(server: Served, target: str) -> None:
    (answer,) = asked(server, get(target, CLOSE))
    assert answer == (200, b'{"live":true}')


@pytest.mark.parametrize("path", [INFER, "/v2/health/live", "/v2/repository/index"])
@pytest.mark.parametrize(
    "begin", [b"0\r\nX: ", b"0\r\n", b"0\r\nX: y\r\nX: ", b"1;", b"%b1;" % (b"1\r\n{\r\n" * 9)]
)
def test_a_trailer_or_a_chunk_s_extension_without_end_is_refused(
    server: Served, path: str, begin: bytes
) -> None:
    """The parser joins the pieces of a field, which would take seconds from a few megabytes on."""
    method = b"GET" if "live" in path else b"POST"
    head = b"%b %b HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" % (method, path.encode())
    with server.connect() as connection:
        connection.sendall(head + begin)
        with contextlib.suppress(OSError):  # it is refused before it is whole
            for _ in range(64):
                connection.sendall(b"x" * (1 << 14))
        (answer,) = answers(connection)
    assert answer[0] == 431 or (answer[0] == 200 and "live" in path)  # which needs no body


def test_trailers_of_a_request_are_ignored(server: Served) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" % INFER.encode()
    trailers = b"X: %b\r\nHost: evil\r\n" % (b"y" * 60_000)
    body = b"%x;a=b\r\n%b\r\n0\r\n%b\r\n" % (len(BODY), BODY, trailers)
    assert [status for status, _ in asked(server, head + body + LAST)] == [200, 200]


@pytest.mark.parametrize("handler", HANDLERS)
def test_two_connection_headers_are_one_list(server: Served, handler: str) -> None:
    for first, second in ((b"close", b"keep-alive"), (b"keep-alive", b"close")):
        headers = b"Connection: %b\r\nConnection: %b\r\n" % (first, second)
        (answer,) = asked(server, post(headers + HANDLERS[handler]) + LAST)
        assert answer[0] == 200
    headers = b"Connection: keep-alive\r\nConnection: x\r\n"
    assert [status for status, _ in asked(server, post(headers + HANDLERS[handler]) + LAST)] == [200, 200]


def test_an_old_client_needs_no_host_and_has_no_chunks(server: Served) -> None:
    (answer,) = asked(server, b"GET /v2/health/live HTTP/1.0\r\n\r\n")
    assert answer[0] == 200
    head = b"POST %b HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % INFER.encode()
    (answer,) = asked(server, head)
    assert answer[0] == 400
    assert "HTTP/1.0 has no Transfer-Encoding" in sentence(answer)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"CONNECT t:1 HTTP/1.1", 501),
        (b"GET / HTTP/2.0", 505),
        (b"GET / HTTP/0.9", 505),
        (b"PRI * HTTP/2.0", 0),
    ],
)
def test_what_is_no_request_to_a_server_of_this_kind_is_refused(
    server: Served, line: bytes, status: int
) -> None:
    (answer,) = asked(server, line + b"\r\nHost: t\r\n\r\n" + LAST)
    assert answer[0] == (status or 400)
    assert sentence(answer)
