"""Work of many requests at once: how much of it one step of the loop does, and whose turn comes next."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable

import orjson
import pytest
from engine_helpers import PATIENCE_S, engine_of, eventually, rows
from http_helpers import json_tensor, serving
from loop_helpers import Run, on_both_loops
from raw_http import HANDLERS, answers, post

from paddleinfer.shim.protocol import body
from paddleinfer.shim.service.long_work import LongWork
from paddleinfer.shim.service.turns import Turns

LARGE = 1 << 16


class Work:
    """Pieces of work that take a given time, and in which step of the loop each was done."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.step = 0
        self.done: list[tuple[str, int]] = []
        self.turns = Turns(lambda: self.now_ns)

    def piece(self, name: str, ms: int) -> Callable[[], None]:
        def work() -> None:
            self.now_ns += ms * 1_000_000
            self.done.append((name, self.step))

        return work

    async def until(self, count: int) -> None:
        while len(self.done) < count:
            self.step += 1
            await asyncio.sleep(0)


@on_both_loops
def test_a_step_does_10_ms_of_work_and_the_next_ones_the_rest_in_order(run: Run) -> None:
    async def asked() -> None:
        work = Work()
        for number in range(7):
            work.turns.call(LARGE, work.piece(str(number), 4))
        assert [name for name, _ in work.done] == ["0", "1", "2"]
        await work.until(7)
        assert [name for name, _ in work.done] == list("0123456")
        steps = [step for _, step in work.done]
        assert max(map(steps.count, steps)) == 3

    run(asked())


@on_both_loops
def test_small_work_goes_before_large_work_that_waits_and_does_not_starve_it(run: Run) -> None:
    async def asked() -> None:
        work = Work()
        for number in range(3):
            work.turns.call(LARGE, work.piece(f"large {number}", 20))
        for number in range(3):
            work.turns.call(100, work.piece(f"small {number}", 20))
        await work.until(6)
        names = [name for name, _ in work.done]
        assert names == ["large 0", "small 0", "large 1", "small 1", "large 2", "small 2"]

    run(asked())


@on_both_loops
def test_what_a_piece_gives_or_raises_comes_also_in_a_later_step(run: Run) -> None:
    async def asked() -> None:
        work = Work()

        def failing() -> None:
            raise ValueError("it fails")

        work.turns.call(LARGE, work.piece("long", 50))
        waiting = [asyncio.ensure_future(work.turns.run(LARGE, call)) for call in (failing, lambda: 7)]
        gone = asyncio.ensure_future(work.turns.run(LARGE, work.piece("nobody's", 1)))
        await asyncio.sleep(0)
        gone.cancel()
        failed, given = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(failed, ValueError) and given == 7
        await asyncio.sleep(0)
        assert await work.turns.run(LARGE, lambda: 8) == 8
        assert [name for name, _ in work.done] == ["long"]

    run(asked())


def slow_clock(step_ns: int = 4_000_000) -> Callable[[], int]:
    """By which everything takes so long."""
    ticks = itertools.count(0, step_ns)
    return lambda: next(ticks)


@pytest.mark.parametrize("handler", HANDLERS)
def test_requests_that_take_turns_get_what_they_asked_for(handler: str) -> None:
    many = engine_of(max_queue_rows=100_000)
    with many as engine, serving(engine) as server, contextlib.ExitStack() as stack:
        server.service.inference.turns = Turns(slow_clock())
        clients = [stack.enter_context(server.connect()) for _ in range(30)]
        for number, client in enumerate(clients):
            asks = orjson.dumps({"inputs": [json_tensor("x", rows(1 + number * 100, value=number))]})
            client.sendall(post(HANDLERS[handler] + b"Connection: close\r\n", asks))
        for number, client in enumerate(clients):
            ((status, answer),) = answers(client)
            (output,) = orjson.loads(answer)["outputs"]
            assert status == 200
            assert output["data"] == [2.0 * number] * (3 + number * 300)


@pytest.mark.parametrize("handler", HANDLERS)
def test_requests_whose_clients_leave_before_their_turn_are_over(handler: str) -> None:
    with engine_of() as engine, serving(engine) as server:
        inference = server.service.inference
        inference.turns = Turns(slow_clock(20_000_000))
        for _ in range(50):
            with server.connect() as leaving:
                leaving.sendall(post(HANDLERS[handler]))
        assert eventually(lambda: inference.under_way == 0 and server.service.connections.open == 0)
        with server.connect() as client:
            client.sendall(post(HANDLERS[handler] + b"Connection: close\r\n"))
            assert answers(client)[0][0] == 200


def test_clients_take_turns_at_long_work() -> None:
    """One that sent much before does not keep the others waiting."""
    done: list[str] = []

    async def asked() -> None:
        long_work, begun = LongWork(), threading.Event()
        first = asyncio.ensure_future(long_work.run("10.0.0.1", begun.wait, PATIENCE_S))
        await asyncio.sleep(0)
        asks = [
            *(("10.0.0.1", f"a{number}") for number in range(4)),
            *(("2001:db8::1", f"b{number}") for number in range(2)),
            *(("2001:db8::2", f"b{number}") for number in range(2, 4)),  # of the same network
            (None, "c0"),
        ]
        waiting = [asyncio.ensure_future(long_work.run(who, done.append, what)) for who, what in asks]
        await asyncio.sleep(0)
        waiting[1].cancel()
        begun.set()
        await asyncio.gather(first, *waiting, return_exceptions=True)

    asyncio.run(asked())
    assert done == ["a0", "b0", "c0", "a2", "b1", "a3", "b2", "b3"]


def test_long_work_goes_on_whatever_is_given_up_and_whatever_fails() -> None:
    async def asked() -> None:
        long_work, over = LongWork(), threading.Event()
        running = asyncio.ensure_future(long_work.run("a", over.wait, PATIENCE_S))
        await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(long_work.run("a", int, "no number")) for _ in range(3)]
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.sleep(0)
        for one in waiting[:2]:
            one.cancel()
        over.set()
        with pytest.raises(ValueError, match="no number"):
            await waiting[2]
        assert await long_work.run("b", int, "7") == 7

    asyncio.run(asked())


@pytest.mark.parametrize(
    ("size_bytes", "on_the_loop"), [(4 << 10, True), (64 << 10, False), (1 << 20, False)]
)
def test_what_takes_long_to_compress_is_compressed_beside_the_loop(
    size_bytes: int, on_the_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def noting(given: bytes, encoding: str) -> bytes:
        threads.append(threading.current_thread())
        return given

    monkeypatch.setattr(body, "_deflate", noting)
    asyncio.run(body.compressed(bytes(size_bytes), "gzip"))
    assert (threads == [threading.current_thread()]) is on_the_loop
