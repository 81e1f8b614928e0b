"""How many connections there may be at once, and how much unread of answers."""

from __future__ import annotations

import contextlib
import logging
import resource

import orjson
import pytest
from engine_helpers import engine_of, eventually
from http_helpers import serving
from raw_http import answers, get, post, sentence

from paddleinfer.shim.service.connection_limits import ConnectionLimits
from paddleinfer.shim.sockets.descriptors import allow_descriptors


class Connection:
    looks = 0

    def __init__(self, unsent_bytes: int) -> None:
        self.left = unsent_bytes
        self.dropped = False

    @property
    def unsent_bytes(self) -> int:
        Connection.looks += 1
        return self.left

    def drop(self) -> None:
        self.dropped = True


def test_connections_are_counted_in_all_and_for_each_address() -> None:
    limits = ConnectionLimits(3, 2, 0)
    assert limits.enter("10.0.0.1") is None
    assert limits.enter("10.0.0.1") is None
    refusal = limits.enter("10.0.0.1")
    assert refusal is not None and "--max-connections-per-address" in refusal and "10.0.0.1" in refusal
    assert limits.enter(None) is None
    refusal = limits.enter("10.0.0.2")
    assert refusal is not None and "--max-connections allows" in refusal
    limits.leave("10.0.0.1")
    assert limits.enter("10.0.0.1") is None
    for address in ("10.0.0.1", "10.0.0.1", None):
        limits.leave(address)
    assert limits.open == 0
    assert not limits._by_address


def test_a_network_of_ipv6_is_one_client_and_an_ipv4_address_in_it_is_itself() -> None:
    limits = ConnectionLimits(10, 1, 0)
    assert limits.enter("2001:db8::1") is None
    assert limits.enter("2001:db8::2") is not None
    assert limits.enter("2001:db8:0:1::1") is None
    assert limits.enter("fe80::1%eth0") is None
    assert limits.enter("::ffff:10.0.0.1") is None
    assert limits.enter("::ffff:10.0.0.2") is None
    assert limits.enter("10.0.0.1") is not None


def test_unread_answers_over_the_limit_go_the_oldest_first() -> None:
    limits = ConnectionLimits(10, 10, 100)
    first, second, third = Connection(40), Connection(50), Connection(60)
    limits.hold(first)
    limits.hold(second)
    assert not first.dropped
    limits.hold(third)
    assert [one.dropped for one in (first, second, third)] == [True, True, False]
    limits.release(third)
    limits.hold(second)
    assert not third.dropped


def test_what_has_been_read_meanwhile_does_not_count() -> None:
    limits = ConnectionLimits(10, 10, 100)
    first, second, third = Connection(60), Connection(40), Connection(50)
    limits.hold(first)
    limits.hold(second)
    first.left = 10
    limits.hold(third)
    assert not (first.dropped or second.dropped or third.dropped)
    for one in (first, second, third):
        limits.release(one)
        limits.release(one)
    limits.hold(Connection(50))
    limits.hold(last := Connection(50))
    assert not last.dropped


def test_thousands_of_slow_readers_are_not_all_looked_at_each_time() -> None:
    limits = ConnectionLimits(10_000, 10_000, 1000)
    Connection.looks = 0
    held = [Connection(1) for _ in range(5000)]
    for one in held:
        limits.hold(one)
    assert Connection.looks < 20 * len(held)
    assert [one.dropped for one in held] == [True] * 4000 + [False] * 1000


def test_one_answer_larger_than_the_limit_is_held_alone() -> None:
    limits = ConnectionLimits(10, 10, 100)
    small, large = Connection(1), Connection(1000)
    limits.hold(small)
    limits.hold(large)
    assert (small.dropped, large.dropped) == (True, False)


def test_connections_over_the_limit_are_told_and_those_before_go_on() -> None:
    with engine_of() as engine, serving(engine, max_connections=3) as server, contextlib.ExitStack() as stack:
        open_ones = [stack.enter_context(server.connect()) for _ in range(3)]
        for connection in open_ones:
            connection.sendall(get("/v2/health/live"))
            assert connection.recv(12) == b"HTTP/1.1 200"
        (refused,) = answers(stack.enter_context(server.connect()))
        assert refused[0] == 503
        assert "--max-connections allows no more" in sentence(refused)
        open_ones[0].close()

        def is_answered() -> bool:
            with server.connect() as connection:
                return connection.recv(12) != b"HTTP/1.1 503" if wrote(connection) else False

        def wrote(connection) -> bool:  # type: ignore[no-untyped-def]
            with contextlib.suppress(OSError):
                connection.sendall(post(b"Connection: close\r\n"))
                return True
            return False

        assert eventually(is_answered)


def test_connections_of_one_address_have_a_limit_of_their_own() -> None:
    with engine_of() as engine, serving(engine, max_connections_per_address=1) as server:
        with server.connect() as first:
            first.sendall(get("/v2/health/live"))
            assert first.recv(12) == b"HTTP/1.1 200"
            with server.connect() as second:
                (refused,) = answers(second)
        assert refused[0] == 503
        assert "--max-connections-per-address" in orjson.loads(refused[1])["error"]


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """The limit on open files as the test wants it."""
    state = {"limit": (1024, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: state["limit"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: state.update(limit=limit))
    return state


def test_the_soft_limit_on_open_files_is_raised_as_far_as_the_connections_need(
    limited: dict[str, tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    limits = ConnectionLimits(2000, 2000, 0)
    allow_descriptors(limits)
    assert limited["limit"] == (2512, 4096)
    assert limits.most == 2000
    assert caplog.records == []


def test_where_the_limit_on_open_files_is_too_low_fewer_connections_are_allowed(
    limited: dict[str, tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    limits = ConnectionLimits(9000, 9000, 0)
    allow_descriptors(limits)
    assert limited["limit"] == (4096, 4096)
    assert limits.most == 4096 - 512
    assert "3584 connections instead of 9000" in caplog.text
