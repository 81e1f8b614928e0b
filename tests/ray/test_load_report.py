"""What a replica reports to the autoscaler, and what the policy makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from engine_helpers import Gate, engine_of, eventually, rows

from paddleinfer import EngineConfig, QueueFull
from paddleinfer.ray.autoscaling import replicas_for_load
from paddleinfer.ray.load_report import TARGET_LOAD, LoadReporter, latency_table
from paddleinfer.tracing.records import TracedRun

MS = 1_000_000


def run(number: int, count: int, taken_ms: float, failed: bool = False) -> TracedRun:
    end = int(taken_ms * MS)
    return TracedRun(number, 0, 0, 0, end, end, count, count, count, 0, "", failed)


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Seen:
    """An engine of two instances, as far as a reporter looks: counters and runs."""

    def __init__(self) -> None:
        names = ("requests", "rows", "refused", "shed", "expired", "run_ns", "queued_rows")
        self.counted = dict.fromkeys(names, 0)
        self.runs: list[TracedRun] = []

    def stats(self) -> dict[str, int]:
        return dict(self.counted)

    def effective_config(self) -> dict[str, Any]:
        return {"instances": {"value": 2}}

    def recent_activity(self) -> Any:
        return SimpleNamespace(runs=self.runs)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine() -> Seen:
    return Seen()


def reporter(engine: Any, clock: Clock, **options: Any) -> LoadReporter:
    return LoadReporter(engine, EngineConfig.from_options(options), clock)


def test_an_engine_that_has_not_run_knows_no_number_of_replicas(engine: Seen, clock: Clock) -> None:
    reports = reporter(engine, clock)
    clock.now_s += 10
    report = reports.report()
    assert report == {
        **dict.fromkeys(report, 0.0),
        "replicas_needed": -1.0,
    }


def test_the_load_is_what_was_offered_over_what_can_be_done(engine: Seen, clock: Clock) -> None:
    reports = reporter(engine, clock, max_batch_size=8)
    # Two instances of 8 rows in 10 ms: 1,600 rows a second.
    engine.runs = [run(n, 8, 10.0) for n in range(5)]
    engine.counted = {**engine.counted, "requests": 1000, "rows": 8000, "run_ns": 10_000 * MS}
    engine.counted["queued_rows"] = 32
    clock.now_s += 10
    report = reports.report()
    assert report["offered_rows_per_s"] == pytest.approx(800)
    assert report["capacity_rows_per_s"] == pytest.approx(1600)
    assert report["replicas_needed"] == pytest.approx(800 / 1600 / TARGET_LOAD)
    assert report["queue_delay_ms"] == pytest.approx(20)
    assert report["utilisation"] == pytest.approx(0.5)
    clock.now_s += 10
    assert reports.report()["replicas_needed"] == 0.0


def test_what_was_refused_counts_as_offered(engine: Seen, clock: Clock) -> None:
    reports = reporter(engine, clock, max_batch_size=8)
    engine.runs = [run(n, 8, 10.0) for n in range(5)]
    engine.counted = {
        **engine.counted,
        "requests": 1000,
        "rows": 8000,
        "refused": 1000,
        "shed": 100,
        "expired": 100,
    }
    clock.now_s += 10
    report = reports.report()
    assert report["offered_rows_per_s"] == pytest.approx(1600)
    assert report["shed_share"] == pytest.approx(0.6)


def test_a_deadline_lowers_what_a_replica_can_do(engine: Seen, clock: Clock) -> None:
    engine.runs = [run(n, 1, 4.0) for n in range(5)] + [run(n, 8, 16.0) for n in range(5)]
    engine.counted = {**engine.counted, "requests": 1, "rows": 1}

    def capacity(timeout: float | None) -> float:
        reports = reporter(engine, clock, max_batch_size=8, default_timeout=timeout)
        clock.now_s += 1
        return reports.report()["capacity_rows_per_s"]

    assert capacity(None) == pytest.approx(1000)
    assert capacity(0.010) == pytest.approx(500)  # two runs of one row fit, and none of more
    # Where no run can be in time, no number of replicas helps, and the load is what counts.
    assert capacity(0.001) == pytest.approx(1000)


def test_larger_runs_are_not_guessed_to_take_less_time() -> None:
    table = latency_table([run(n, 1, 10.0) for n in range(3)] + [run(n, 2, 8.0) for n in range(3)])
    assert table is not None
    assert table.mean_us(2) == table.mean_us(32) == 10_000


def test_failed_runs_and_sizes_that_ran_once_are_left_out() -> None:
    assert latency_table([run(1, 1, 5.0), run(2, 1, 5.0), run(3, 1, 5.0, failed=True)]) is None


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


def test_a_real_engine_reports_its_load(gate: Gate, clock: Clock) -> None:
    with engine_of(gate, instances=1, max_queue_rows=3, batchable=True) as engine:
        reports = LoadReporter(engine, EngineConfig.from_options({}), clock)
        futures = [engine.submit({"x": rows()})]
        gate.wait_entered()
        futures += [engine.submit({"x": rows()}) for _ in range(3)]
        with pytest.raises(QueueFull):
            engine.submit({"x": rows()}).result()
        gate.open()
        for future in futures:
            future.result()
        assert eventually(lambda: engine.stats()["results"] == 4)
        for _ in range(5):
            engine.infer({"x": rows()})
        clock.now_s += 3
        report = reports.report()
        assert report["offered_rows_per_s"] == pytest.approx(10 / 3)
        assert report["shed_share"] == pytest.approx(0.1)
        assert report["capacity_rows_per_s"] > 0


def context(needed: list[float] | None, queued: float = 0.0, running: float = 0.0, target: int = 3) -> Any:
    figures = {} if needed is None else {"replicas_needed": dict(enumerate(needed))}
    return SimpleNamespace(
        aggregated_metrics=figures,
        total_queued_requests=queued,
        total_running_requests=running,
        target_num_replicas=target,
    )


@pytest.mark.parametrize(
    ("needed", "replicas"),
    [([0.5], 1), ([0.5, 0.5], 1), ([0.7, 0.7], 2), ([1.4, 1.4, 1.4], 5), ([0.0, 0.0], 0), ([-1.0, 1.2], 2)],
)
def test_the_policy_adds_up_what_the_replicas_need(needed: list[float], replicas: int) -> None:
    assert replicas_for_load(context(needed)) == (replicas, {})


@pytest.mark.parametrize("needed", [None, [], [-1.0, -1.0]])
def test_the_policy_keeps_the_number_while_nothing_is_known(needed: list[float] | None) -> None:
    assert replicas_for_load(context(needed, queued=50)) == (3, {})


def test_requests_that_wait_before_the_engines_count_too() -> None:
    assert replicas_for_load(context([1.4], queued=100, running=100)) == (3, {})
    assert replicas_for_load(context([0.1], queued=10, running=0)) == (2, {})
