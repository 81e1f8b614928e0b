"""What an engine says of its traffic is how many replicas it needs."""

from __future__ import annotations

from typing import Any

import pytest
from engine_helpers import engine_of, gated, rows
from hypothesis import given
from hypothesis import strategies as st

from paddleinfer import ConfigError, QueueFull
from paddleinfer.engine.scaling import (
    TARGET,
    ScalingWindow,
    replicas_needed,
    scaling_signals,
)

SECOND = 10**9
COUNTERS = (
    *("requests", "refused", "shed", "expired", "offered_work_ns", "predicted_drain_ns"),
    *("gather_ns", "run_ns", "scatter_ns"),
)
positive = st.floats(0.001, 1e6)


def reading(**counted: float) -> dict[str, Any]:
    assert counted.keys() <= set(COUNTERS)
    return {**dict.fromkeys(COUNTERS, 0), **counted}


# The figure


def test_a_replica_is_needed_for_what_its_instances_do_in_the_time_at_the_target() -> None:
    assert replicas_needed(14.0, 10.0, instances=2, target=0.7) == pytest.approx(1.0)
    assert replicas_needed(14.0, 10.0, instances=1, target=0.7) == pytest.approx(2.0)
    assert replicas_needed(0.0, 10.0, instances=1) == 0


@given(work_s=positive, seconds=positive, instances=st.integers(1, 64), parts=st.integers(1, 100))
def test_shares_of_the_traffic_add_up_to_what_all_of_it_needs(
    work_s: float, seconds: float, instances: int, parts: int
) -> None:
    whole = replicas_needed(work_s, seconds, instances=instances)
    part = replicas_needed(work_s / parts, seconds, instances=instances)
    assert parts * part == pytest.approx(whole)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"target": 0.0}, "target must be above 0 and at most 1, not 0.0"),
        ({"target": 1.5}, "not 1.5"),
        ({"instances": 0}, "at least 1 instance"),
        ({"seconds": 0.0}, "a time above 0"),
        ({"work_s": -1.0}, "0 or more seconds of work"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replicas_needed(**{"work_s": 1.0, "seconds": 1.0, "instances": 1, **values})


# Two readings


def test_what_waits_counts_as_work_and_its_delay_is_said() -> None:
    after = reading(offered_work_ns=7 * SECOND, predicted_drain_ns=3.5 * SECOND)
    signals = scaling_signals(reading(), after, 10.0, instances=2, target=0.7)
    assert signals.replicas_needed == pytest.approx(1.0)
    assert signals.predicted_delay_s == 3.5


def test_the_share_shed_is_of_all_that_came() -> None:
    before = reading(requests=100, refused=50)
    after = reading(requests=170, refused=60, shed=7, expired=3)
    assert scaling_signals(before, after, 1.0, instances=1).share_shed == pytest.approx(0.25)
    assert scaling_signals(before, before, 1.0, instances=1).share_shed == 0


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**12))
def test_shares_stay_between_0_and_1(came: int, lost: int, run_ns: int) -> None:
    signals = scaling_signals(
        reading(), reading(requests=came, expired=lost, run_ns=run_ns), 1.0, instances=1
    )
    assert 0 <= signals.share_shed <= 1 and 0 <= signals.utilisation <= 1


# The window


def test_a_window_forgets_what_is_older() -> None:
    window = ScalingWindow(reading(), 0.0, window_s=30.0)
    busy = reading(offered_work_ns=21 * SECOND)
    assert window.signals(busy, 30.0, instances=1).replicas_needed == pytest.approx(1.0)
    assert window.signals(busy, 60.0, instances=1).replicas_needed == 0


@given(st.lists(st.floats(0.01, 20.0), min_size=1, max_size=60))
def test_how_often_and_by_how_many_it_is_asked_changes_nothing_of_steady_traffic(gaps: list[float]) -> None:
    window = ScalingWindow(reading(), 0.0, window_s=30.0)
    now = 0.0
    for gap in gaps:
        now += gap
        signals = window.signals(reading(offered_work_ns=now * SECOND), now, instances=1)
        if now >= 5:
            assert signals.replicas_needed == pytest.approx(1 / TARGET, rel=1e-6)


def test_the_first_moments_count_as_some_seconds() -> None:
    window = ScalingWindow(reading(), 0.0)
    signals = window.signals(reading(offered_work_ns=0.1 * SECOND), 0.01, instances=1)
    assert signals.replicas_needed < 0.03


# An engine


def test_an_engine_counts_the_work_of_what_it_serves_and_of_what_it_refuses() -> None:
    with engine_of(batchable=True, max_queue_rows=8, max_batch_size=4) as engine:
        engine.warmup(rows(1))
        assert engine.stats()["offered_work_ns"] == 0  # that was nobody's traffic
        engine.infer({"x": rows(1)})
        one = engine.stats()["offered_work_ns"]
        engine.infer({"x": rows(8)})
        assert engine.stats()["offered_work_ns"] > one > 0
        assert engine.scaling_signals().replicas_needed > 0


def test_refused_requests_are_work_that_was_offered() -> None:
    with gated(max_queue_rows=1, batchable=True) as (engine, gate):
        gate.open()
        engine.infer({"x": rows(1)})
        gate.shut()
        engine.submit({"x": rows(1)})
        gate.wait_entered()
        engine.submit({"x": rows(1)})
        before = engine.stats()["offered_work_ns"]
        with pytest.raises(QueueFull):
            engine.submit({"x": rows(1)})
        assert engine.stats()["offered_work_ns"] > before
        assert engine.scaling_signals().share_shed > 0
