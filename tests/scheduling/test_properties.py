"""Properties of the scheduler for any events in any order: nobody is lost, limits hold, delays end.

Time is an argument here: nothing sleeps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from scheduler_helpers import MS, US, Given, S, ask_for_work, linear

from paddleinfer import _ext
from paddleinfer.config import BatchingOptions


@dataclass
class Ask:
    """A request that was taken."""

    rows: int
    bytes: int
    bucket: int
    deadline: int | None
    next_row: int = 0
    """Rows before it have been handed out."""
    running_rows: int = 0
    over: bool = False
    """It has ended in one way or another."""
    gave_up: bool = False
    place: int = -1
    """Among those that came into the queue."""

    @property
    def waits(self) -> bool:
        return not self.over and self.next_row < self.rows


class AnyOrder(RuleBasedStateMachine):
    """Requests come, leave, run and end in any order; beside it a simple account of what must be so."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.numbers: Iterator[int] = itertools.count()
        self.places: Iterator[int] = itertools.count()
        self.asks: dict[int, Ask] = {}
        self.queue: dict[int, Ask] = {}
        """In the order they came in."""
        self.door: dict[int, Ask] = {}
        self.offered_work_ns = 0.0
        self.running: dict[int, list[tuple[int, int, int]]] = {}
        self.started: dict[int, int] = {}
        """Bucket -> the place of the request without a deadline that was begun last."""

    @initialize(
        instances=st.integers(1, 3),
        max_batch_size=st.integers(1, 16),
        max_queue_rows=st.integers(1, 60),
        max_queue_bytes=st.integers(1, 500),
        max_queue_delay_us=st.sampled_from([None, None, 0, 100]),
        merging=st.sampled_from(["yes", "yes", "yes", "no"]),
        fixed_ns=st.sampled_from([0, 9 * MS]),
        per_row_ns=st.sampled_from([0, 10 * US, 5 * MS]),
        warm_callers=st.sampled_from([0, 4, 12]),
        buckets=st.sampled_from([1, 3]),
        longest_pause_ns=st.sampled_from([30 * US, 2 * S]),
    )
    def begin(
        self,
        instances: int,
        max_batch_size: int,
        max_queue_rows: int,
        max_queue_bytes: int,
        max_queue_delay_us: int | None,
        merging: str,
        fixed_ns: int,
        per_row_ns: int,
        warm_callers: int,
        buckets: int,
        longest_pause_ns: int,
    ) -> None:
        self.instances = instances
        self.max_batch_size = max_batch_size
        self.max_queue_rows = max_queue_rows
        self.max_queue_bytes = max_queue_bytes
        self.merges = merging == "yes"
        self.may_delay = self.merges and max_queue_delay_us != 0
        self.run_ns = linear(fixed_ns, per_row_ns)
        self.buckets = buckets
        self.longest_pause_ns = longest_pause_ns
        self.scheduler = _ext.Scheduler(
            BatchingOptions(
                max_batch_size=max_batch_size,
                max_queue_rows=max_queue_rows,
                max_queue_bytes=max_queue_bytes,
                max_queue_delay_us=max_queue_delay_us,
            ),
            instances=instances,
            merging=merging,
        )
        self.warm_up(min(warm_callers, max_queue_rows))

    def warm_up(self, callers: int) -> None:
        """So that it has seen callers and run times, and may hold back."""
        for _ in range(4 if callers else 0):
            for _ in range(callers):
                self.now += 20 * US
                self.ask(rows=1, size=0, bucket=0, due_ns=None, waits_for_room=True)
            while self.queue or self.running:
                self.work_until_it_runs()
                self.finish(0, failed=False)

    # What the account says

    @property
    def idle(self) -> int:
        return self.instances - len(self.running)

    def queued_rows(self) -> int:
        return sum(ask.rows - ask.next_row for ask in self.queue.values())

    def has_room(self, ask: Ask) -> bool:
        return (not self.queue or self.queued_rows() + ask.rows <= self.max_queue_rows) and sum(
            other.bytes for other in self.queue.values()
        ) + ask.bytes <= self.max_queue_bytes

    def open_door(self) -> None:
        while self.door:
            number, ask = next(iter(self.door.items()))
            if not self.has_room(ask):
                return
            self.let_in(number, self.door.pop(number))

    def let_in(self, number: int, ask: Ask) -> None:
        self.queue[number] = ask
        ask.place = next(self.places)

    # What may happen

    @rule(
        rows=st.one_of(st.integers(1, 4), st.integers(1, 70)),
        size=st.sampled_from([0, 0, 1, 100, 501]),
        bucket=st.integers(0, 2),
        due_ns=st.sampled_from([None, None, None, 0, 50 * US, 20 * MS, 5 * S]),
        waits_for_room=st.booleans(),
    )
    def ask(self, rows: int, size: int, bucket: int, due_ns: int | None, waits_for_room: bool) -> None:
        bucket %= self.buckets
        ask = Ask(rows, size, bucket, None if due_ns is None else self.now + due_ns)
        number = next(self.numbers)
        admission = self.scheduler.admit(
            number,
            self.now,
            rows=rows,
            bytes=size,
            bucket=bucket,
            deadline=ask.deadline,
            wait_when_full=waits_for_room,
        )
        room = self.has_room(ask)
        if size > self.max_queue_bytes:
            assert admission == "bytes_over_limit"
        elif waits_for_room and (self.door or not room):
            assert admission == "waits_for_room"
            self.door[number] = self.asks[number] = ask
        elif room and ask.deadline is not None and admission in ("would_be_late", "infeasible"):
            event(f"not taken: {admission}")
        elif room:
            assert admission == "accepted"
            self.asks[number] = ask
            self.let_in(number, ask)
        elif self.queue and self.queued_rows() + rows > self.max_queue_rows:
            assert admission == "too_many_rows"
        else:
            assert admission == "too_many_bytes"

    @rule(which=st.integers(0, 1000))
    def leave(self, which: int) -> None:
        """Its caller gives up: in the queue, at the door, while it runs, or after its end."""
        if not self.asks:
            return
        number = list(self.asks)[which % len(self.asks)]
        ask = self.asks[number]
        assert self.scheduler.forget(number, self.now) == ask.waits
        if not ask.waits:
            return
        self.queue.pop(number, None)
        self.door.pop(number, None)
        ask.over = ask.gave_up = True
        self.open_door()
        assert not self.scheduler.forget(number, self.now)

    @rule(planned=st.booleans())
    def work(self, planned: bool) -> None:
        """An idle instance asks for work, if there is one."""
        if self.idle > 0:
            self.look(planned)
        else:
            assert self.scheduler.plan(self.now) == (0, None)

    def look(self, planned: bool) -> Given:
        plan, plan_wakes_at = self.scheduler.plan(self.now) if planned else (None, None)
        given = ask_for_work(self.scheduler, self.now)
        if plan == 0:  # or an instance would sleep while there is work
            assert given.number is None and not given.late and given.wake_at == plan_wakes_at
        assert plan is None or plan <= self.idle
        for number, why in given.late:
            self.is_late(number, why)
        if given.number is None:
            assert not given.slices
        else:
            assert given.wake_at is None
            self.take(given)
        self.open_door()
        if given.number is None:
            self.is_held(given.wake_at)
        return given

    def is_late(self, number: int, why: str) -> None:
        ask = self.asks[number]
        assert ask.waits and ask.deadline is not None
        assert why in ("expired", "shed")
        assert why == "shed" or ask.deadline <= self.now
        self.queue.pop(number, None)
        self.door.pop(number, None)  # it has come in meanwhile
        ask.over = True
        event("late")

    def take(self, given: Given) -> None:
        """A batch is handed out."""
        batch = [self.asks[number] for number, _, _ in given.slices]
        assert len({ask.bucket for ask in batch}) == 1
        assert len({number for number, _, _ in given.slices}) == len(batch)
        rows_in_all = sum(rows for _, _, rows in given.slices)
        if self.merges:
            assert 1 <= rows_in_all <= self.max_batch_size
        else:
            assert len(batch) == 1 and rows_in_all == batch[0].rows
        for (number, first_row, rows), ask in zip(given.slices, batch, strict=True):
            assert ask.waits and rows >= 1
            assert ask.deadline is None or ask.deadline > self.now
            assert first_row == ask.next_row and first_row + rows <= ask.rows
            if number in self.door:
                self.let_in(number, self.door.pop(number))
            if first_row == 0 and ask.deadline is None:
                assert self.started.get(ask.bucket, -1) < ask.place, "somebody was overtaken"
                self.started[ask.bucket] = ask.place
            ask.next_row += rows
            ask.running_rows += rows
            if ask.next_row == ask.rows:
                del self.queue[number]
            else:
                event("part")
        assert given.number is not None and given.number not in self.running
        self.running[given.number] = given.slices

    def is_held(self, wake_at: int | None) -> None:
        """Nothing runs now; if somebody waits, then only for others to batch with, and not for ever."""
        if not self.queue:
            assert wake_at is None
            return
        assert wake_at is not None and wake_at > self.now
        assert self.may_delay and self.idle == 1
        event("held")

    @rule()
    def work_until_it_runs(self) -> None:
        """If nobody comes, every delay ends with a batch."""
        looks = 0
        while self.idle > 0 and self.queue:
            given = self.look(planned=looks % 2 == 0)
            if given.number is not None:
                return
            if given.wake_at is not None:
                self.now = given.wake_at
            looks += 1
            assert looks <= 20

    @rule(which=st.integers(0, 1000), failed=st.sampled_from([False, False, True]))
    def finish(self, which: int, failed: bool) -> None:
        """A batch has run."""
        if not self.running:
            return
        number = list(self.running)[which % len(self.running)]
        slices = self.running.pop(number)
        run_ns = self.run_ns(sum(rows for _, _, rows in slices))
        over = self.scheduler.done(number, run_ns, self.now, failed=failed)
        assert len(over) == len(set(over))
        for request, _, rows in slices:
            ask = self.asks[request]
            ask.running_rows -= rows
            if not ask.over:
                ask.over = ask.next_row == ask.rows and ask.running_rows == 0
                assert (request in over) == ask.over
            elif not ask.gave_up:
                assert request not in over, "it was late, and is over a second time"
        assert set(over) <= {request for request, _, _ in slices}

    @rule(ns=st.sampled_from([1, 10 * US, 100 * US, 3 * MS, 30 * MS, 2 * S]))
    def pass_time(self, ns: int) -> None:
        self.now += min(ns, self.longest_pause_ns)

    # What always holds

    @invariant()
    def the_account_is_right(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        load = self.scheduler.load()
        assert load["queued_requests"] == len(self.queue)
        assert load["queued_rows"] == self.queued_rows()
        assert self.queued_rows() <= self.max_queue_rows or len(self.queue) == 1
        assert load["queued_bytes"] == sum(ask.bytes for ask in self.queue.values()) <= self.max_queue_bytes
        assert load["running_batches"] == len(self.running) <= self.instances
        assert load["waiting_for_room"] == len(self.door)
        assert load["drain_ns"] >= 0
        assert load["offered_work_ns"] >= self.offered_work_ns
        self.offered_work_ns = load["offered_work_ns"]

    def teardown(self) -> None:
        """All who still wait are served, and what was taken is given back."""
        if not hasattr(self, "scheduler"):
            return
        while self.queue or self.running:
            if self.idle > 0 and self.queue:
                self.work_until_it_runs()
            if self.running:
                self.finish(0, failed=False)
            self.the_account_is_right()
        assert not self.door
        for ask in self.asks.values():
            assert ask.over and ask.running_rows == 0
        load = self.scheduler.load()
        del load["offered_work_ns"]  # of all that ever came
        assert not any(load.values()), load
        self.ask(
            rows=self.max_queue_rows, size=self.max_queue_bytes, bucket=0, due_ns=None, waits_for_room=False
        )
        assert len(self.queue) == 1


class Delaying(AnyOrder):
    """The same, where delaying a batch for others pays as a rule."""

    @initialize(
        instances=st.integers(1, 2),
        max_queue_delay_us=st.sampled_from([None, None, 100]),
        per_row_ns=st.sampled_from([0, 10 * US]),
        buckets=st.integers(1, 2),
    )
    def begin(  # type: ignore[override]
        self, instances: int, max_queue_delay_us: int | None, per_row_ns: int, buckets: int
    ) -> None:
        super().begin(
            instances=instances,
            max_batch_size=16,
            max_queue_rows=60,
            max_queue_bytes=500,
            max_queue_delay_us=max_queue_delay_us,
            merging="yes",
            fixed_ns=9 * MS,
            per_row_ns=per_row_ns,
            warm_callers=12,
            buckets=buckets,
            longest_pause_ns=30 * US,
        )


TestAnyOrder = AnyOrder.TestCase
TestDelaying = Delaying.TestCase
TestAnyOrder.settings = TestDelaying.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None
)
