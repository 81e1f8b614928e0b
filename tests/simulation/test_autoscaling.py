"""How many replicas an autoscaler wants, by what it is given."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddleinfer.engine.scaling import TARGET
from paddleinfer.simulation.arrivals import Wave
from paddleinfer.simulation.autoscaling import METRICS, Autoscaler, Autoscaling, Measured

INTERVAL_S = 10.0
IDLE = Measured(INTERVAL_S, open=4, starting=0, busy_s=0, instance_s=80, rows_accepted=0, work_s=0)


def scaling(metric: str, target: float, **more: float) -> Autoscaling:
    options = {"interval_s": INTERVAL_S, "hold_s": 0.0, **more}
    return Autoscaling(metric, target, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metric", "target", "measured"),
    [
        ("utilisation", 0.25, {"busy_s": 40.0}),
        ("rows_per_s", 100.0, {"rows_accepted": 8_000}),
        ("replicas_needed", 1.0, {"work_s": 8 * TARGET * 2 * INTERVAL_S}),
    ],
)
def test_twice_the_target_wants_twice_the_replicas(
    metric: str, target: float, measured: dict[str, float]
) -> None:
    now = dataclasses.replace(IDLE, **measured)  # type: ignore[arg-type]
    assert Autoscaler(scaling(metric, target), instances=2).wanted(now) == 8


@given(st.floats(0.91, 1.09), st.integers(1, 50), st.integers(0, 50))
def test_near_the_target_nothing_changes(near: float, open_now: int, starting: int) -> None:
    there = open_now + starting
    now = dataclasses.replace(
        IDLE, open=open_now, starting=starting, rows_accepted=round(1e6 * near * there * INTERVAL_S)
    )
    assert Autoscaler(scaling("rows_per_s", 1e6), instances=2).wanted(now) == there


@given(st.lists(st.integers(0, 100), min_size=1, max_size=30), st.integers(0, 10))
def test_what_was_wanted_of_late_stays(loads: list[int], intervals: int) -> None:
    quick = Autoscaler(scaling("rows_per_s", 1.0, tolerance=0.0), instances=1)
    slow = Autoscaler(scaling("rows_per_s", 1.0, tolerance=0.0, hold_s=intervals * INTERVAL_S), instances=1)
    wanted = []
    for load in loads:
        now = dataclasses.replace(IDLE, rows_accepted=round(load * INTERVAL_S))
        wanted.append(quick.wanted(now))
        assert slow.wanted(now) == max(wanted[-1 - intervals :])


@pytest.mark.parametrize("metric", METRICS)
def test_without_traffic_the_least_are_left(metric: str) -> None:
    assert Autoscaler(scaling(metric, 1.0, least=2), instances=1).wanted(IDLE) == 2


def test_a_wave_rises_and_falls_around_its_rate() -> None:
    wave = Wave(1_000, swing=0.5, period_s=10)
    times_s = wave.draw(100_000, 1).offsets_ns / 1e9
    assert len(times_s) / times_s[-1] == pytest.approx(1_000, rel=0.03)
    in_quarters = [sum((times_s % 10 >= start) & (times_s % 10 < start + 2.5)) for start in (1.25, 6.25)]
    assert in_quarters[0] / in_quarters[1] == pytest.approx((1 + 0.45) / (1 - 0.45), rel=0.05)
