"""The simulator, and what must hold of every decision in it. Time is virtual; draws follow from seeds."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from simulation_helpers import (
    ADAPTIVE,
    EAGER,
    MS,
    PROCESSES,
    SLACK_MS,
    TABLE,
    URGENT,
    Watched,
    by_policy,
    by_process,
    watch,
)

from paddleinfer import ConfigError, _ext
from paddleinfer.config import BatchingOptions
from paddleinfer.simulation import POLICIES, Policy, simulate
from paddleinfer.simulation.arrivals import Bursty, ClosedLoop, Poisson, Recorded, RequestKind
from paddleinfer.simulation.latency_table import LatencyTable, attainable_goodput, capacity

# The simulator


@by_process
def test_the_same_seed_gives_the_same_result_and_another_seed_another(process: str) -> None:
    arrivals = PROCESSES[process]
    first, again, other = (simulate(arrivals, TABLE, requests=1_000, seed=seed) for seed in (7, 7, 8))
    assert first == again and np.array_equal(first.latencies_ms, again.latencies_ms, equal_nan=True)
    assert first != other


@pytest.mark.parametrize("process", ["poisson", "bursty", "recorded"])
def test_every_policy_gets_the_same_arrivals(process: str) -> None:
    seen = [
        watch(Watched, PROCESSES[process], TABLE, policy, requests=1_000)[1].arrivals for policy in POLICIES
    ]
    assert all(arrivals == seen[0] for arrivals in seen[1:])
    assert len(seen[0]) == 1_000


@by_policy
def test_the_nth_run_deviates_from_its_mean_alike_under_every_policy(policy: Policy) -> None:
    table = LatencyTable.linear(9_000, 300, jitter=0.2)
    _, watched = watch(Watched, Poisson(1_000), table, policy, requests=1_000)
    _, eager = watch(Watched, Poisson(300), table, EAGER, requests=1_000)
    factors = [
        [run_ns / table.mean_us(rows) / 1e3 for rows, run_ns in scheduler.run_times[:50]]
        for scheduler in (watched, eager)
    ]
    assert factors[0] == pytest.approx(factors[1], rel=1e-6)
    assert np.std(factors[0]) == pytest.approx(0.2, abs=0.07)


@by_process
@by_policy
@pytest.mark.parametrize("drain", [True, False])
def test_every_request_ends_in_exactly_one_way(process: str, policy: Policy, drain: bool) -> None:
    options = {"requests": 2_000, "max_queue_rows": 200, "drain": drain, "instances": 2}
    result, watched = watch(Watched, PROCESSES[process], TABLE, policy, **options)
    ends = (result.in_time, result.late, result.refused, result.shed, result.expired, result.left)
    assert sum(ends) == result.offered == len(watched.arrivals) == 2_000
    assert result.in_time + result.late == np.isfinite(result.latencies_ms).sum()
    load = watched.scheduler.load()
    if drain:
        assert result.left == load["queued_requests"] == load["running_batches"] == 0
    else:
        assert (
            load["queued_requests"] <= result.left <= load["queued_requests"] + load["running_batches"] * 32
        )


@pytest.mark.parametrize("policy", [ADAPTIVE, EAGER], ids=str)
@pytest.mark.parametrize("think_ms", [0, 5])
def test_one_caller_in_a_closed_loop_never_waits(policy: Policy, think_ms: int) -> None:
    alone = ClosedLoop(1, think_ms=think_ms, kinds=URGENT)
    result = simulate(alone, LatencyTable.linear(9_000, 300, jitter=0), policy, requests=300)
    assert result.in_time == result.runs == 300
    assert result.latencies_ms == pytest.approx(np.full(300, 9.3))


def test_callers_in_a_closed_loop_wait_for_their_answers() -> None:
    result = simulate(ClosedLoop(4, think_ms=1), TABLE, requests=4_000, max_batch_size=1)
    assert result.latencies_ms.max() < 5 * 4 * 9.3 and result.mean_batch_rows == 1
    assert result.in_time / result.seconds == pytest.approx(1e3 / 9.3, rel=0.02)


def test_a_full_queue_refuses_and_its_callers_come_back() -> None:
    result = simulate(ClosedLoop(50), TABLE, EAGER, requests=3_000, max_queue_rows=20, max_batch_size=8)
    assert result.refused > 100 and result.in_time > 100 and result.left == 0


def test_what_a_result_says_follows_from_its_latencies() -> None:
    result = simulate(Poisson(1_000, URGENT), TABLE, requests=3_000)
    assert result.mean_ms == pytest.approx(np.nanmean(result.latencies_ms))
    assert result.p50_ms <= result.p99_ms <= np.nanmax(result.latencies_ms)
    assert result.in_time == np.sum(result.latencies_ms <= 50)
    assert result.goodput_per_s == pytest.approx(result.in_time / result.seconds)
    assert result.runs == sum(result.reasons.values()) and set(result.reasons) <= set(_ext.DISPATCH_REASONS)
    assert result.mean_batch_rows * result.runs == pytest.approx(result.in_time + result.late)
    assert 0.9 < result.utilisation <= 1
    assert json.loads(json.dumps(result.as_dict()))["policy"] == {"name": "adaptive", "delay_ms": None}


def test_a_simulation_in_which_nothing_is_done_has_no_latencies() -> None:
    result = simulate(Recorded([0.0, 0.0]), TABLE, requests=2, max_queue_rows=1, drain=False)
    assert (result.refused, result.left, result.goodput_per_s, result.utilisation) == (1, 1, 0, 0)
    assert math.isnan(result.mean_ms) and result.as_dict()["p99_ms"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Policy("lazy"),
        lambda: Policy("fixed_delay"),
        lambda: Policy("adaptive", -1),
        lambda: simulate(Poisson(1), TABLE, instances=0),
        lambda: Poisson(0),
        lambda: Poisson(1, kinds=()),
        lambda: Bursty(1, burst_share=1.5),
        lambda: Bursty(1, burst_share=0.5, burst_factor=3),
        lambda: Bursty(1, burst_s=math.nan),
        lambda: ClosedLoop(0),
        lambda: ClosedLoop(1, think_ms=-1),
        lambda: Recorded([]),
        lambda: Recorded([1.0, 0.5]),
        lambda: Recorded([1.0, 2.0], kind_of=[0]),
        lambda: RequestKind(rows=0),
        lambda: RequestKind(deadline_ms=0),
        lambda: RequestKind(priority=3),
        lambda: RequestKind(weight=math.inf),
        lambda: LatencyTable.linear(-1, 1),
        lambda: LatencyTable.linear(0, 0),
        lambda: LatencyTable.linear(1, 1, jitter=2),
        lambda: LatencyTable.points({}),
        lambda: LatencyTable.points({1: (2.0, 1.0)}),
        lambda: attainable_goodput(ClosedLoop(1), 1.0),
    ],
)
def test_wrong_values_are_refused_in_one_sentence(wrong: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]{15,160}$"):
        wrong()


# What must hold of every decision


class Checked(Watched):
    """A scheduler whose every decision is checked."""

    def __init__(self, batching: BatchingOptions, *, instances: int) -> None:
        super().__init__(batching, instances=instances)
        self.idle = instances
        self.most_rows = batching.max_batch_size
        self.policy = batching.policy
        self.waiting: dict[int, tuple[int, int, dict[str, Any]]] = {}  # number -> key, arrival, what it is
        self.never: set[int] = set()  # refused, shed or expired
        self.ran: set[int] = set()
        self.longest_delay_ms = 0.0

    def admit(self, number: int, now: int, **about: Any) -> str:
        admission = super().admit(number, now, **about)
        if admission == "accepted":
            slack = now + SLACK_MS[about["priority"]] * MS
            key = slack if about["deadline"] is None else min(slack, about["deadline"])
            self.waiting[number] = (key, now, about)
        else:
            self.never.add(number)
        return admission

    def next(self, now: int) -> _ext.Batch:
        assert self.idle > 0
        batch = super().next(now)
        for number, _ in batch.late:
            self.never.add(number)
            del self.waiting[number]
        if batch.number is None:
            self.check_delay(now, batch.wake_at)
            return batch
        self.idle -= 1
        numbers = [number for number, _, _ in batch.slices]
        assert not self.never & set(numbers) and not self.ran & set(numbers)
        self.ran |= set(numbers)
        gone = [self.waiting.pop(number) for number in numbers]
        assert batch.rows == sum(about["rows"] for _, _, about in gone) <= self.most_rows
        assert len({about["bucket"] for _, _, about in gone}) == 1
        self.check_order(gone, same=lambda a, b: a["bucket"] == b["bucket"])
        if self.policy == "eager":
            first = [min(gone, key=lambda entry: entry[0])]
            self.check_order(first, same=lambda a, b: True)
        if batch.delayed_since is not None:
            self.longest_delay_ms = max(
                self.longest_delay_ms, (batch.delayed_until - batch.delayed_since) / MS
            )
        return batch

    def done(self, batch: int, run_ns: int, now: int) -> list[Any]:
        self.idle += 1
        return super().done(batch, run_ns, now)

    def check_delay(self, now: int, wake_at: int | None) -> None:
        """Nothing waits while an instance idles, unless it is held, and only until a time that is known."""
        if not self.waiting:
            return
        assert self.policy != "eager" and wake_at is not None and wake_at > now
        for bucket in {about["bucket"] for _, _, about in self.waiting.values()}:
            mine = [entry for entry in self.waiting.values() if entry[2]["bucket"] == bucket]
            rows = sum(about["rows"] for _, _, about in mine)
            assert rows < self.most_rows
            if self.policy == "fixed_delay":
                _, arrival, _ = min(mine, key=lambda entry: entry[0])
                assert now < arrival + self.batching.max_queue_delay_us * 1_000
            else:
                assert self.idle == 1  # only the last idle instance may hold

    def check_order(self, gone: list[Any], same: Callable[[Any, Any], bool]) -> None:
        last_key = max(key for key, _, _ in gone)
        for key, _, about in self.waiting.values():
            if same(about, gone[0][2]):
                assert key >= last_key


@by_policy
@pytest.mark.parametrize("seed", range(5))
def test_every_decision_keeps_the_rules(policy: Policy, seed: int) -> None:
    rng = random.Random(seed)
    kinds = tuple(
        RequestKind(
            rows=rng.choice([1, 1, 2, 5]),
            deadline_ms=rng.choice([None, 30, 50, 200, 2_000]),
            priority=rng.randrange(3),
            bucket=rng.randrange(2),
            weight=rng.uniform(0.2, 1),
        )
        for _ in range(rng.randint(1, 4))
    )
    instances = rng.randint(1, 3)
    table = LatencyTable.linear(rng.choice([500, 9_000]), 300)
    rate = rng.choice([0.1, 0.5, 1.0, 2.0]) * capacity(table, instances)
    process = rng.choice([Poisson(rate, kinds), Bursty(rate, kinds=kinds), ClosedLoop(40, 10, kinds)])
    options = {"instances": instances, "requests": 800, "seed": seed}
    result, checked = watch(Checked, process, table, policy, **options)
    assert not checked.waiting and checked.never.isdisjoint(checked.ran)
    assert len(checked.never) == result.refused + result.shed + result.expired
    assert len(checked.ran) == result.in_time + result.late
    if policy is ADAPTIVE:
        assert checked.longest_delay_ms <= 1.3 * table.mean_us(0) / 1e3


@pytest.mark.parametrize("load", [0.1, 0.3, 0.6])
def test_delays_happen_pay_and_end_within_what_a_run_costs_by_itself(load: float) -> None:
    options = {"instances": 2, "requests": 5_000}
    arrivals = Poisson(load * capacity(TABLE, 2), URGENT)
    result, checked = watch(Checked, arrivals, TABLE, **options)
    assert result.reasons["delay_expired"] > 0
    assert 0 < checked.longest_delay_ms <= 1.3 * 9  # what a run costs by itself is learned from noisy runs
    assert result.mean_ms <= 1.03 * simulate(arrivals, TABLE, EAGER, **options).mean_ms


def test_the_lowest_class_waits_a_bounded_time_under_a_flood_of_the_highest() -> None:
    kinds = (RequestKind(priority=0, weight=0.99), RequestKind(priority=2, weight=0.01))
    arrivals = Poisson(1.3 * capacity(TABLE), kinds)
    result = simulate(arrivals, TABLE, requests=40_000)
    lowest = result.latencies_ms[np.array(arrivals.draw(40_000, 1).kind_of) == 1]
    longest_s = np.nanmax(lowest) / 1e3
    backlog_s = 4_096 / capacity(TABLE)  # what may wait ahead of it when its slack is over
    assert 5 < longest_s < SLACK_MS[2] / 1e3 + backlog_s + 0.1
    assert np.nanmax(result.latencies_ms) / 1e3 == pytest.approx(longest_s)


@pytest.mark.parametrize("seed", range(8))
def test_run_times_that_vary_widely_do_not_keep_batches_small(seed: int) -> None:
    """The standard deviation of a run time is its mean."""
    table = LatencyTable.linear(20, 0.5, jitter=1.0)
    flood = simulate(ClosedLoop(200, 0.01), table, instances=2, requests=20_000, seed=seed)
    assert flood.in_time == 20_000 and flood.mean_batch_rows >= 24
