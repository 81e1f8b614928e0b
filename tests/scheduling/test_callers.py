"""The scheduler under callers who wait for their answers: shares, batching delays, and who never waits.

Time is an argument here: nothing sleeps.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import NamedTuple

import pytest
from scheduler_helpers import MS, US, Given, S, ask_for_work, linear

from paddleinfer import _ext
from paddleinfer.config import BatchingOptions


class Run(NamedTuple):
    began: int
    rows: int


class ClosedLoop:
    """Callers of one row each who ask again some time after their answer, on a virtual clock."""

    def __init__(
        self,
        scheduler: _ext.Scheduler,
        *,
        callers: int,
        instances: int,
        run_ns: Callable[[int], int],
        think_ns: int = 50 * US,
        spacing_ns: int = 0,
    ) -> None:
        """`think_ns` after a batch its first caller asks again, each further one `spacing_ns` later."""
        self.now = 0
        self.runs: list[Run] = []
        self.waits: list[int] = []
        """Of each request, from asking to its run."""
        self.holds = 0
        """How often an idle instance was told to wait although somebody waited."""
        self._scheduler = scheduler
        self._idle = instances
        self._run_ns = run_ns
        self._think_ns = think_ns
        self._spacing_ns = spacing_ns
        self._ties = itertools.count()
        self._numbers = itertools.count()
        self._asked: dict[int, int] = {}
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._come_back(callers)

    def run_until(self, end: int) -> None:
        while self._events and self._events[0][0] <= end:
            self.now, _, happens = heapq.heappop(self._events)
            happens()
            self._work()
        self.now = end

    def rows_per_second(self, begin: int, end: int) -> float:
        """Of the runs that began in between."""
        return sum(run.rows for run in self.runs if begin <= run.began < end) * S / (end - begin)

    def _at(self, time: int, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._ties), happens))

    def _come_back(self, callers: int) -> None:
        for place in range(callers):
            self._at(self.now + self._think_ns + place * self._spacing_ns, self._ask)

    def _ask(self) -> None:
        number = next(self._numbers)
        self._asked[number] = self.now
        assert self._scheduler.admit(number, self.now) == "accepted"

    def _work(self) -> None:
        while self._idle > 0:
            given = ask_for_work(self._scheduler, self.now)
            assert not given.late
            if given.number is None:
                if given.wake_at is not None:
                    self.holds += 1
                    self._at(given.wake_at, lambda: None)
                return
            rows = sum(rows for _, _, rows in given.slices)
            self.runs.append(Run(self.now, rows))
            self.waits += [self.now - self._asked.pop(number) for number, _, _ in given.slices]
            self._idle -= 1
            self._at(self.now + self._run_ns(rows), self._ends(given, self._run_ns(rows)))

    def _ends(self, given: Given, run_ns: int) -> Callable[[], None]:
        def end() -> None:
            self._idle += 1
            self._scheduler.done(given.number, run_ns, self.now)
            self._come_back(len(given.slices))

        return end


SPACINGS = pytest.mark.parametrize(
    "spacing_ns", [20 * US, 0], ids=["one after the other", "all of a batch at once"]
)


@pytest.mark.parametrize(
    ("callers", "spacing_ns"),
    [
        (64, 20 * US),
        (64, 0),
        (16, 20 * US),
        (16, 0),
    ],
)
def test_callers_in_a_loop_keep_two_instances_busy_with_half_of_them_each(
    callers: int, spacing_ns: int
) -> None:
    run_ns = linear(9 * MS, 300 * US)
    loop = ClosedLoop(
        _ext.Scheduler(BatchingOptions(), instances=2),
        callers=callers,
        instances=2,
        run_ns=run_ns,
        spacing_ns=spacing_ns,
    )
    loop.run_until(8 * S)
    best = callers * S / run_ns(callers // 2)
    assert loop.rows_per_second(3 * S, 8 * S) >= 0.9 * best


@SPACINGS
def test_two_callers_of_one_instance_share_its_runs(spacing_ns: int) -> None:
    loop = ClosedLoop(
        _ext.Scheduler(BatchingOptions()),
        callers=2,
        instances=1,
        run_ns=linear(9 * MS, 300 * US),
        spacing_ns=spacing_ns,
    )
    loop.run_until(4 * S)
    settled = [run.rows for run in loop.runs if run.began > 1 * S]
    assert settled.count(2) >= 0.9 * len(settled)


@pytest.mark.parametrize("think_ns", [50 * US, 5 * MS])
@pytest.mark.parametrize("instances", [1, 2])
def test_one_caller_never_waits(instances: int, think_ns: int) -> None:
    loop = ClosedLoop(
        _ext.Scheduler(BatchingOptions(), instances=instances),
        callers=1,
        instances=instances,
        run_ns=linear(9 * MS, 300 * US),
        think_ns=think_ns,
    )
    loop.run_until(4 * S)
    assert loop.holds == 0 and set(loop.waits) == {0} and {run.rows for run in loop.runs} == {1}


@SPACINGS
@pytest.mark.parametrize("callers", [2, 16])
def test_where_a_run_costs_nothing_by_itself_nobody_is_held_for_others(callers: int, spacing_ns: int) -> None:
    loop = ClosedLoop(
        _ext.Scheduler(BatchingOptions()),
        callers=callers,
        instances=1,
        run_ns=linear(0, 300 * US),
        spacing_ns=spacing_ns,
    )
    loop.run_until(1 * S)
    loop.holds = 0
    loop.run_until(4 * S)
    assert loop.holds == 0


def test_nobody_is_held_where_that_is_forbidden() -> None:
    loop = ClosedLoop(
        _ext.Scheduler(BatchingOptions(max_queue_delay_us=0)),
        callers=16,
        instances=1,
        run_ns=linear(9 * MS, 300 * US),
        spacing_ns=20 * US,
    )
    loop.run_until(4 * S)
    assert loop.holds == 0
