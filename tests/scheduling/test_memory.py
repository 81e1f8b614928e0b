"""Requests that come and leave the scheduler leave nothing behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from scheduler_helpers import S

from paddleinfer import _ext
from paddleinfer.backends.processors import resident_memory_bytes
from paddleinfer.config import BatchingOptions


@dataclass
class Flood:
    """Requests that are taken and leave at once, while others wait all the time."""

    scheduler: _ext.Scheduler
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for _ in range(100):
            self.scheduler.admit(("waits", next(self.numbers)), 0)

    def pour(self, count: int, options: Callable[[int], dict[str, Any]]) -> None:
        admit, forget = self.scheduler.admit, self.scheduler.forget
        for number in itertools.islice(self.numbers, count):
            admit(number, number, **options(number))
            forget(number, number)


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (1_000_000, lambda number: {"bucket": number & 3}),
        (200_000, lambda number: {"bucket": number}),  # a shape of its own each
        (200_000, lambda number: {"deadline": number + 3600 * S}),
        (200_000, lambda number: {"rows": 3900 + (number & 1) * 100, "wait_when_full": True}),
    ],
    ids=["few shapes", "many shapes", "far deadlines", "the door"],
)
def test_requests_that_come_and_leave_take_no_memory(
    count: int, options: Callable[[int], dict[str, Hashable]]
) -> None:
    flood = Flood(_ext.Scheduler(BatchingOptions()))
    flood.pour(20_000, options)

    def grown_bytes() -> int:
        before = resident_memory_bytes()
        flood.pour(count, options)
        return resident_memory_bytes() - before

    # What is left of earlier tests may take memory meanwhile; what requests leave behind grows each time.
    assert any(grown_bytes() < 5_000_000 for _ in range(3))
    load = flood.scheduler.load()
    assert load["queued_requests"] == load["queued_rows"] == 100 and load["waiting_for_room"] == 0
