"""Requests of one turn of the loop as one message."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from engine_helpers import PATIENCE_S, rows

from paddleinfer import ConfigError, DeadlineExceeded, InvalidInput
from paddleinfer.ray import CoalescingHandle


class Recording:
    """A handle whose replica doubles, refuses negative values, and fails as a whole where it is told to."""

    def __init__(self) -> None:
        self.messages: list[int] = []
        self.fails = False
        self.infer_together = self

    async def remote(self, requests: list[Any]) -> list[Any]:
        self.messages.append(len(requests))
        await asyncio.sleep(0)
        if self.fails:
            raise ConnectionError("the replica is gone")
        return [InvalidInput("negative") if value < 0 else {"y": 2 * value} for value, _ in requests]


def test_requests_of_one_turn_go_together_and_end_apart() -> None:
    async def ask() -> list[Any]:
        calls = [together.ainfer(value) for value in (1, -1, 3)]
        return await asyncio.gather(*calls, return_exceptions=True)

    handle = Recording()
    together = CoalescingHandle(handle)
    first, second, third = asyncio.run(ask())
    assert (first, third) == ({"y": 2}, {"y": 6})
    assert isinstance(second, InvalidInput)
    assert handle.messages == [3]


def test_a_message_has_no_more_requests_than_it_may() -> None:
    async def ask() -> list[Any]:
        return await asyncio.gather(*(together.ainfer(value) for value in range(7)))

    handle = Recording()
    together = CoalescingHandle(handle, max_requests=3)
    assert asyncio.run(ask()) == [{"y": 2 * value} for value in range(7)]
    assert handle.messages == [3, 3, 1]


def test_a_lost_message_is_the_error_of_each_of_its_requests() -> None:
    async def ask() -> list[Any]:
        return await asyncio.gather(*(together.ainfer(value) for value in range(2)), return_exceptions=True)

    handle = Recording()
    handle.fails = True
    together = CoalescingHandle(handle)
    assert [type(error) for error in asyncio.run(ask())] == [ConnectionError, ConnectionError]


def test_a_cancelled_task_leaves_the_others_their_answers() -> None:
    async def ask() -> Any:
        tasks = [asyncio.ensure_future(together.ainfer(value)) for value in range(2)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        return await tasks[1]

    together = CoalescingHandle(Recording())
    assert asyncio.run(ask()) == {"y": 2}


def test_wrong_uses_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_requests must be"):
        CoalescingHandle(Recording(), max_requests=0)
    together = CoalescingHandle(Recording())
    assert asyncio.run(together.ainfer(1)) == {"y": 2}
    with pytest.raises(ConfigError, match="belongs to one event loop"):
        asyncio.run(together.ainfer(1))


@pytest.mark.ray
def test_replicas_batch_what_came_together(gated: Callable[..., Any], gate: Any) -> None:
    handle = gated()

    async def ask() -> list[Any]:
        late = together.ainfer({"x": rows()}, deadline_unix_s=time.time() - 1)
        wrong = together.ainfer({"z": rows()})
        right = [together.ainfer({"x": rows(1, value)}) for value in range(8)]
        return await asyncio.gather(late, wrong, *right, return_exceptions=True)

    gate.open()
    together = CoalescingHandle(handle)
    late, wrong, *right = asyncio.run(ask())
    assert isinstance(late, DeadlineExceeded) and isinstance(wrong, InvalidInput)
    assert [float(answer["y"][0, 0]) for answer in right] == [2.0 * value for value in range(8)]
    stats = handle.stats.remote().result(timeout_s=PATIENCE_S)
    assert stats["rows"] == 8 and max(stats["batch_rows"]) > 1
