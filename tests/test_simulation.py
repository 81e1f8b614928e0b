"""The simulator, and what the scheduler makes of loads in it. Time is virtual; draws follow from seeds."""

from __future__ import annotations

import functools
import importlib.util
import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddleinfer import ConfigError, Engine, WarmupReport, _ext, simulation
from paddleinfer.arrival_processes import ArrivalProcess, Bursty, ClosedLoop, Poisson, Recorded, RequestKind
from paddleinfer.run_times import LatencyTable, attainable_goodput, capacity, mean_latency_bound
from paddleinfer.simulation import POLICIES, Policy, SimulationResult, main, simulate

ADAPTIVE, EAGER, *FIXED_DELAYS = POLICIES
MS = 1_000_000
SLACK_MS = (100, 1_000, 10_000)
TABLE = LatencyTable.linear(9_000, 300)
URGENT = (RequestKind(deadline_ms=50),)
MIXED = (
    RequestKind(deadline_ms=40, priority=0, weight=0.3),
    RequestKind(rows=3, deadline_ms=200, bucket=1, weight=0.3),
    RequestKind(rows=2, priority=2, weight=0.2),
    RequestKind(priority=0, bucket=1, weight=0.2),
)
PROCESSES: dict[str, ArrivalProcess] = {
    "poisson": Poisson(2_500, MIXED),
    "bursty": Bursty(1_500, kinds=MIXED),
    "closed": ClosedLoop(90, think_ms=20, kinds=MIXED),
    "recorded": Recorded([0.004 * (n // 9) for n in range(2_000)], MIXED),
}
by_process = pytest.mark.parametrize("process", PROCESSES)
by_policy = pytest.mark.parametrize("policy", POLICIES, ids=str)


class Watched:
    """A scheduler, and all that it was asked and said."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.scheduler = _ext.Scheduler(**options)
        self.arrivals: list[tuple[int, int, dict[str, Any]]] = []
        self.run_times: list[tuple[int, int]] = []  # rows, nanoseconds
        self.rows: dict[int, int] = {}

    def admit(self, number: int, now: int, **about: Any) -> str:
        self.arrivals.append((number, now, about))
        return self.scheduler.admit(number, now, **about)

    def next(self, now: int) -> _ext.Batch:
        batch = self.scheduler.next(now)
        if batch.number is not None:
            self.rows[batch.number] = batch.rows
        return batch

    def done(self, batch: int, run_ns: int, now: int) -> list[Any]:
        self.run_times.append((self.rows[batch], run_ns))
        return self.scheduler.done(batch, run_ns, now)


def watch(make: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[SimulationResult, Any]:
    made: list[Any] = []

    def make_scheduler(**scheduler_options: Any) -> Any:
        made.append(make(**scheduler_options))
        return made[0]

    result = simulate(*arguments, make_scheduler=make_scheduler, **options)
    return result, made[0]


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


# Arrivals


def test_poisson_arrivals_have_exponential_gaps_at_their_rate() -> None:
    gaps_ns = np.diff(Poisson(250).draw(40_000, 1).offsets_ns)
    assert gaps_ns.mean() == pytest.approx(4 * MS, rel=0.02)
    assert gaps_ns.std() == pytest.approx(4 * MS, rel=0.02)


def test_bursts_keep_the_mean_rate_and_come_for_their_share_of_the_time() -> None:
    bursty = Bursty(1_000, burst_factor=3, burst_share=0.25, burst_s=0.2)
    times_ns = np.array(bursty.draw(400_000, 1).offsets_ns)
    assert (np.diff(times_ns) >= 0).all()
    assert len(times_ns) / times_ns[-1] * 1e9 == pytest.approx(1_000, rel=0.1)
    in_windows = np.bincount(times_ns // (20 * MS))  # 20 expected; 60 in bursts, 7 in calm
    assert np.mean(in_windows > 35) == pytest.approx(0.25, abs=0.03)
    assert np.median(in_windows[in_windows > 35]) == pytest.approx(60, abs=3)
    assert np.median(in_windows[in_windows < 35]) == pytest.approx(6.7, abs=1)


def test_kinds_come_by_weight_and_a_recording_as_it_was() -> None:
    kinds = Counter(Poisson(1, MIXED).draw(20_000, 1).kind_of)
    assert [kinds[place] / 20_000 for place in range(4)] == pytest.approx([0.3, 0.3, 0.2, 0.2], abs=0.02)
    drawn = Recorded([5.0, 5.25, 6.0], MIXED, kind_of=[2, 0, 1]).draw(10, 1)
    assert (drawn.offsets_ns, drawn.kind_of) == ([0, 250 * MS, 1_000 * MS], [2, 0, 1])


# Run times


def test_a_latency_table_follows_its_line_or_its_points() -> None:
    line = LatencyTable.linear(9_000, 300, jitter=0.05)
    assert line.mean_us(32) == pytest.approx(18_600) and line.p95_us(32) == pytest.approx(
        18_600 * 1.0838, rel=1e-3
    )
    points = LatencyTable.points({1: (100, 120), 3: (200, 260), 4: (300, 330)})
    assert [points.mean_us(rows) for rows in (1, 2, 3, 4, 6)] == pytest.approx([100, 150, 200, 300, 500])
    assert points.p95_us(2) == pytest.approx(190)
    assert LatencyTable.points({2: (100, 100)}).mean_us(4) == 200


def test_an_engine_s_warm_up_makes_a_table() -> None:
    inputs = {"x": ("float32", (-1, 4))}
    with Engine.from_callable(lambda given: given["x"], inputs, ["y"], max_batch_size=4) as engine:
        report = engine.warmup()
    table = LatencyTable.measured(report)
    assert [table.mean_us(rows) for rows in (1, 2, 4)] == pytest.approx([report.run_us[n] for n in (1, 2, 4)])
    assert simulate(Poisson(100), table, requests=50).in_time == 50


def test_a_measured_table_keeps_the_means_and_adds_the_jitter() -> None:
    report = WarmupReport(run_us={1: 100.0, 8: 240.0}, largest_difference={}, batchable=True)
    table = LatencyTable.measured(report, jitter=0.1)
    assert table.mean_us(8) == 240 and table.p95_us(8) == pytest.approx(240 * 1.173, rel=1e-3)


def test_the_capacity_is_that_of_the_best_batch_that_is_in_time() -> None:
    table = LatencyTable.linear(9_000, 300, jitter=0)
    assert capacity(table) == pytest.approx(32 / 18.6e-3)
    assert capacity(table, 2, 50) == pytest.approx(2 * 32 / 18.6e-3)
    assert capacity(table, 1, 30) == pytest.approx(20 / 15e-3)
    assert capacity(table, 1, 18) == 0
    slower = LatencyTable.points({1: (100, 100), 2: (150, 150), 4: (600, 600)})
    assert capacity(slower, max_batch_size=4) == pytest.approx(2 / 150e-6)


def test_the_attainable_goodput_is_all_below_the_capacity_and_the_capacity_above() -> None:
    assert attainable_goodput(Poisson(50, URGENT), 100) == pytest.approx(50, rel=0.03)
    assert attainable_goodput(Poisson(300, URGENT), 100) == pytest.approx(100, rel=0.01)


# Theory


def exact_mean_ms(rate_per_s: float, a_us: float, b_us: float, most_rows: int = 400) -> float:
    """From the chain of batch sizes: see steps 1 and 4 in ``mean_latency_bound``."""
    rate = rate_per_s / 1e6
    rows = np.arange(1, most_rows)
    time_us = a_us + b_us * rows
    comers = np.arange(most_rows)
    logarithms = np.array([math.lgamma(count + 1) for count in comers])
    expected = (rate * time_us)[:, None]
    chain = np.exp(comers * np.log(expected) - expected - logarithms)
    chain[:, 1] += chain[:, 0]
    chain = chain[:, 1:] / chain[:, 1:].sum(axis=1, keepdims=True)
    sizes = np.linalg.matrix_power(chain, 256)[0]
    return float((rate / 2 * sizes @ time_us**2 + sizes @ (rows * time_us)) / (sizes @ rows) / 1e3)


@pytest.mark.parametrize(("a_us", "b_us"), [(9_000, 300), (1_000, 200), (500, 1_000)])
@pytest.mark.parametrize("load", [0.05, 0.2, 0.4, 0.6])
def test_the_mean_latency_of_the_eager_policy_is_what_theory_says(
    a_us: float, b_us: float, load: float
) -> None:
    rate = load / b_us * 1e6
    table = LatencyTable.linear(a_us, b_us, jitter=0)
    means = []
    for seed in range(1, 5):
        # The rate as it happened to come about would move the mean: the times are stretched to the one meant.
        times_s = np.array(Poisson(rate).draw(15_000, seed).offsets_ns) / 1e9
        arrivals = Recorded((times_s * (15_000 / rate / times_s[-1])).tolist())
        result = simulate(arrivals, table, EAGER, requests=15_000, max_batch_size=400, drain=False)
        means.append(result.mean_ms)
    exact, bound = exact_mean_ms(rate, a_us, b_us), mean_latency_bound(rate, a_us, b_us)
    assert np.mean(means) == pytest.approx(exact, rel=0.015)
    assert np.mean(means) <= 1.015 * bound
    assert 0.93 * bound <= exact <= bound * (1 + 1e-9)


def test_the_bound_is_the_lesser_of_inoue_s_two_closed_forms() -> None:
    for a, b, rate in ((9_000, 300, 20), (9_000, 300, 2_000), (500, 1_000, 700), (1_000, 200, 4_000)):
        per_us = rate / 1e6
        load = per_us * b
        first = (a + b) / (2 * (1 - load)) * (1 + 2 * per_us * a + (1 - per_us * a) / (1 + load))
        second = 1.5 * a / (1 - load) + b / 2 * (load + 2) / (1 - load**2)
        assert mean_latency_bound(rate, a, b) == pytest.approx(min(first, second) / 1e3)
    assert mean_latency_bound(5_000, 1_000, 200) == math.inf


# What must hold of every decision


class Checked(Watched):
    """A scheduler whose every decision is checked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.idle = options["instances"]
        self.most_rows = options["max_batch_size"]
        self.policy = options["policy"]
        self.waiting: dict[int, tuple[int, int, dict[str, Any]]] = {}  # number -> key, arrival, what it is
        self.never: set[int] = set()  # refused, shed or expired
        self.ran: set[int] = set()
        self.longest_hold_ms = 0.0

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
            self.check_hold(now, batch.wake_at)
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
        if batch.held_since is not None:
            self.longest_hold_ms = max(self.longest_hold_ms, (batch.held_until - batch.held_since) / MS)
        return batch

    def done(self, batch: int, run_ns: int, now: int) -> list[Any]:
        self.idle += 1
        return super().done(batch, run_ns, now)

    def check_hold(self, now: int, wake_at: int | None) -> None:
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
                assert now < arrival + self.options["max_hold_us"] * 1_000
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
        assert checked.longest_hold_ms <= 1.3 * table.mean_us(0) / 1e3


@pytest.mark.parametrize("load", [0.1, 0.3, 0.6])
def test_holds_happen_pay_and_end_within_what_a_run_costs_by_itself(load: float) -> None:
    options = {"instances": 2, "requests": 5_000}
    arrivals = Poisson(load * capacity(TABLE, 2), URGENT)
    result, checked = watch(Checked, arrivals, TABLE, **options)
    assert result.reasons["held_over"] > 0
    assert 0 < checked.longest_hold_ms <= 1.3 * 9  # what a run costs by itself is learned from noisy runs
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


# What is promised of goodput and latency: deadlines of 50 ms

MODELS = {"slow": TABLE, "fast": LatencyTable.linear(1_000, 200)}
by_model = pytest.mark.parametrize("model", MODELS)
by_instances = pytest.mark.parametrize("instances", [1, 2])
by_arrivals = pytest.mark.parametrize("process", [Poisson, Bursty], ids=["poisson", "bursty"])
VIRTUAL_SECONDS = 3


@functools.cache
def served(
    model: str, instances: int, process: type[Poisson | Bursty], load: float
) -> tuple[tuple[SimulationResult, ...], float]:
    """The results of all policies, and the goodput that none can exceed."""
    table = MODELS[model]
    most = capacity(table, instances, 50)
    arrivals = process(load * most, kinds=URGENT)
    requests = max(3_000, round(load * most * VIRTUAL_SECONDS))
    results = [
        simulate(arrivals, table, policy, instances=instances, requests=requests, drain=False)
        for policy in POLICIES
    ]
    return tuple(results), attainable_goodput(arrivals, most, requests=requests)


@by_model
@by_instances
def test_at_twice_the_capacity_goodput_is_nearly_the_capacity(model: str, instances: int) -> None:
    (adaptive, *_), _ = served(model, instances, Poisson, 2.0)
    assert adaptive.goodput_per_s >= 0.95 * capacity(MODELS[model], instances, 50)
    assert adaptive.late <= 0.005 * adaptive.offered


@by_model
@by_instances
@pytest.mark.parametrize("load", [0.5, 1.0, 2.0])
def test_in_bursts_goodput_is_nearly_what_can_be_attained(model: str, instances: int, load: float) -> None:
    (adaptive, *others), attainable = served(model, instances, Bursty, load)
    # The bound ends rows one by one. A batch ends them together: that costs part of a run for each burst.
    assert adaptive.goodput_per_s >= 0.85 * attainable
    assert adaptive.goodput_per_s >= 1.2 * max(other.goodput_per_s for other in others)


@by_model
@by_instances
@by_arrivals
@pytest.mark.parametrize("load", [0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0])
def test_goodput_is_nowhere_much_below_that_of_any_other_policy(
    model: str, instances: int, process: type[Poisson | Bursty], load: float
) -> None:
    (adaptive, *others), _ = served(model, instances, process, load)
    assert adaptive.goodput_per_s >= 0.98 * max(other.goodput_per_s for other in others)


@by_model
@by_instances
@pytest.mark.parametrize(
    ("process", "load"),
    [*((Poisson, load) for load in (0.05, 0.1, 0.25, 0.4)), *((Bursty, load) for load in (0.05, 0.1, 0.15))],
    ids=lambda value: getattr(value, "__name__", value),
)  # bursts are of three times the load
def test_below_half_the_capacity_the_mean_latency_is_that_of_the_eager_policy(
    model: str, instances: int, process: type[Poisson | Bursty], load: float
) -> None:
    (adaptive, eager, *_), _ = served(model, instances, process, load)
    assert adaptive.mean_ms <= 1.03 * eager.mean_ms


@by_model
@by_instances
def test_at_low_load_every_fixed_delay_is_slower(model: str, instances: int) -> None:
    (adaptive, _, *fixed), _ = served(model, instances, Poisson, 0.05)
    assert all(adaptive.mean_ms < delayed.mean_ms for delayed in fixed)


@by_instances
@pytest.mark.parametrize("load", [1.5, 4.0])
def test_goodput_does_not_collapse_for_good_when_deadlines_differ(instances: int, load: float) -> None:
    kinds = (
        RequestKind(deadline_ms=25, priority=0, weight=0.2),
        RequestKind(deadline_ms=50, weight=0.4),
        RequestKind(deadline_ms=1_000, priority=2, weight=0.4),
    )
    most = capacity(TABLE, instances, 50)
    arrivals = Poisson(load * most, kinds)
    result = simulate(arrivals, TABLE, instances=instances, requests=round(10 * load * most), drain=False)
    assert result.goodput_per_s >= 0.9 * most


# The command

INSTALLED = pytest.mark.skipif(
    any(importlib.util.find_spec(module) is None for module in ("matplotlib", "rich")),
    reason='needs pip install "paddleinfer[demo]"',
)


@INSTALLED
@pytest.mark.parametrize("arrivals", ["poisson", "bursty", "closed"])
def test_the_command_prints_a_table_and_draws_a_picture(
    arrivals: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, figures = tmp_path / "picture.png", tmp_path / "figures.json"
    options = ["--load", "0.5", "2", "--requests", "400", "--arrivals", arrivals]
    assert main([*options, "--out", str(picture), "--json", str(figures)]) == 0
    printed = capsys.readouterr().out
    assert all(printed.count(str(policy)) >= 2 for policy in POLICIES) and "1,720 rows a second" in printed
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    points = json.loads(figures.read_text())["points"]
    assert [point["load"] for point in points] == [0.5, 2]
    assert all(len(point["results"]) == len(POLICIES) for point in points)
    assert all(result["offered"] == 400 for point in points for result in point["results"])


@INSTALLED
@pytest.mark.parametrize(
    "arguments",
    [
        ["--load", "-1"],
        ["--load", "much"],
        ["--deadline-ms", "nan"],
        ["--deadline-ms", "5"],
        ["--instances", "1.5"],
        ["--requests", "0"],
        ["--arrivals", "regular"],
        ["--out", "no/such/folder.png", "--load", "1", "--requests", "10"],
        ["--nonsense"],
    ],
)
def test_the_command_refuses_wrong_values_in_one_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_command_names_the_packages_it_lacks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main([])
    assert 'matplotlib and rich must be installed: pip install "paddleinfer[demo]"' in capsys.readouterr().err
