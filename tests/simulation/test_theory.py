"""Arrivals, run times and mean latencies of the simulator are compared with theory."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from simulation_helpers import (
    EAGER,
    MIXED,
    MS,
    URGENT,
)

from paddleinfer import Engine, WarmupReport
from paddleinfer.simulation import simulate
from paddleinfer.simulation.arrivals import Bursty, Poisson, Recorded
from paddleinfer.simulation.latency_table import (
    LatencyTable,
    attainable_goodput,
    capacity,
    mean_latency_bound,
)

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
    kinds = Counter(Poisson(1, MIXED).draw(20_000, 1).kind_of.tolist())
    assert [kinds[place] / 20_000 for place in range(4)] == pytest.approx([0.3, 0.3, 0.2, 0.2], abs=0.02)
    drawn = Recorded([5.0, 5.25, 6.0], MIXED, kind_of=[2, 0, 1]).draw(10, 1)
    assert drawn.offsets_ns.tolist() == [0, 250 * MS, 1_000 * MS]
    assert drawn.kind_of.tolist() == [2, 0, 1]


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
