"""Replicas behind a router: nothing is lost, and one replica is the simulation without a router."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation_helpers import PROCESSES, TABLE, URGENT, by_process

from paddleinfer import ConfigError, _ext
from paddleinfer.simulation import POLICIES, ROUTERS, Autoscaling, Poisson, Wave, simulate, simulate_fleet
from paddleinfer.simulation.arrivals import ClosedLoop
from paddleinfer.simulation.fleet import FleetResult

by_router = pytest.mark.parametrize("router", ROUTERS)
ONE_REPLICA_PER_S = 1_720  # requests, of TABLE within 50 ms
SOON = Autoscaling("replicas_needed", 1.0, interval_s=0.5, start_s=0.25, hold_s=2.0)


def assert_all_ended_once(result: FleetResult, offered: int) -> None:
    of = result.requests
    ends = (of.in_time, of.late, of.refused, of.shed, of.expired, of.left)
    assert sum(ends) == of.offered == offered
    assert of.in_time + of.late == np.isfinite(of.latencies_ms).sum()
    assert of.runs == sum(of.reasons.values())


def test_the_routers_are_those_of_the_core() -> None:
    assert ROUTERS == _ext.ROUTINGS


@settings(max_examples=40, deadline=None)
@given(
    process=st.sampled_from(sorted(PROCESSES)),
    router=st.sampled_from(ROUTERS),
    policy=st.sampled_from(POLICIES),
    instances=st.integers(1, 3),
    seed=st.integers(1, 1_000),
    drain=st.booleans(),
    stale_ms=st.sampled_from([0.0, 3.0]),
    max_queue_rows=st.sampled_from([60, 4096]),
)
def test_one_replica_behind_any_router_is_the_simulation_without_a_router(
    process: str, router: Any, policy: Any, stale_ms: float, **options: Any
) -> None:
    arrivals = PROCESSES[process]
    alone = simulate(arrivals, TABLE, policy, requests=800, **options)
    behind = simulate_fleet(
        arrivals,
        TABLE,
        replicas=1,
        router=router,
        policy=policy,
        stale_ms=stale_ms,
        requests=800,
        **options,
    )
    assert behind.requests == alone
    assert np.array_equal(behind.requests.latencies_ms, alone.latencies_ms, equal_nan=True)


@settings(max_examples=40, deadline=None)
@given(
    process=st.sampled_from(sorted(PROCESSES)),
    router=st.sampled_from(ROUTERS),
    replicas=st.integers(1, 12),
    stale_ms=st.sampled_from([0.0, 0.5, 40.0]),
    network_ms=st.sampled_from([0.0, 0.25, 7.0]),
    autoscaling=st.sampled_from([None, SOON]),
    seed=st.integers(1, 1_000),
    drain=st.booleans(),
    warmup=st.booleans(),
)
def test_nothing_is_lost_and_every_request_ends_once(process: str, **options: Any) -> None:
    result = simulate_fleet(PROCESSES[process], TABLE, requests=1_500, max_queue_rows=50, **options)
    assert_all_ended_once(result, 1_500)
    if options["drain"]:
        assert result.requests.left == 0
    again = simulate_fleet(PROCESSES[process], TABLE, requests=1_500, max_queue_rows=50, **options)
    assert again == result
    assert np.array_equal(result.requests.latencies_ms, again.requests.latencies_ms, equal_nan=True)


@by_router
def test_another_seed_gives_another_result(router: Any) -> None:
    first, other = (
        simulate_fleet(Poisson(5_000, URGENT), TABLE, replicas=4, router=router, requests=2_000, seed=seed)
        for seed in (7, 8)
    )
    assert first != other


@by_process
def test_replicas_that_stay_cost_their_time(process: str) -> None:
    result = simulate_fleet(PROCESSES[process], TABLE, replicas=3, requests=500)
    assert result.replica_s == pytest.approx(3 * result.requests.seconds)
    assert result.mean_replicas == pytest.approx(3)
    assert result.replica_s_per_1000_good == pytest.approx(1e3 * result.replica_s / result.requests.in_time)
    assert result.scaled == [(0.0, 3)]


def goodput(router: Any, load: float, **options: Any) -> float:
    """Of 20 replicas, of what was offered; the load in units of their capacity."""
    arrivals = Poisson(load * 20 * ONE_REPLICA_PER_S, URGENT)
    of = simulate_fleet(
        arrivals, TABLE, replicas=20, router=router, requests=60_000, warmup=True, **options
    ).requests
    return of.in_time / of.offered


def test_a_router_that_knows_the_delay_does_better_than_chance() -> None:
    by_delay, of_two, by_chance = (
        goodput(router, 1.0) for router in ("least_delay", "power_of_two_delay", "random")
    )
    assert by_delay >= of_two > 0.999 and by_chance < 0.98


def test_old_figures_have_all_requests_go_to_one_replica_after_the_other() -> None:
    assert goodput("least_delay", 0.7) > 0.999
    assert goodput("least_delay", 0.7, stale_ms=5) < 0.95
    assert goodput("power_of_two_delay", 0.7, stale_ms=5) > 0.999


def test_a_router_that_asks_spares_slow_replicas() -> None:
    slow = {"slow_share": 0.3, "slow_factor": 2.0}
    assert goodput("power_of_two_delay", 0.7, **slow) > goodput("round_robin", 0.7, **slow) + 0.01


@pytest.mark.parametrize("network_ms", [0.5, 4.0])
def test_the_network_is_part_of_the_latency_both_ways(network_ms: float) -> None:
    alone = ClosedLoop(1, think_ms=30)
    near, far = (
        simulate_fleet(alone, TABLE, replicas=1, requests=200, network_ms=each).requests.latencies_ms
        for each in (0.0, network_ms)
    )
    assert np.allclose(far - near, 2 * network_ms, atol=1e-5)


def test_a_deadline_includes_the_network() -> None:
    result = simulate_fleet(Poisson(100, URGENT), TABLE, replicas=1, requests=500, network_ms=26, warmup=True)
    assert result.requests.in_time == result.requests.late == 0
    assert result.requests.offered - result.requests.left == 500


# Autoscaling


@pytest.mark.parametrize(
    ("metric", "target"),
    [("utilisation", 0.8), ("rows_per_s", 0.7 * ONE_REPLICA_PER_S), ("replicas_needed", 1)],
)
def test_replicas_follow_the_load_up_and_down_and_nothing_is_lost(metric: Any, target: float) -> None:
    wave = Wave(5 * ONE_REPLICA_PER_S, swing=0.8, period_s=8.0, kinds=URGENT)
    scaling = Autoscaling(metric, target, interval_s=0.5, start_s=0.25, hold_s=1.0)
    result = simulate_fleet(
        wave, TABLE, replicas=8, autoscaling=scaling, requests=70_000, warmup=True, network_ms=0.1
    )
    assert_all_ended_once(result, 70_000)
    counts = [count for _, count in result.scaled]
    changes = np.diff(counts)
    assert max(changes) > 0 > min(changes)
    assert counts[-1] <= result.most_replicas == max(counts)
    assert min(counts) < result.mean_replicas < max(counts)
    assert result.requests.in_time > 0.9 * 70_000


def test_a_replica_that_starts_costs_and_serves_nobody_until_it_is_there() -> None:
    never = dataclasses.replace(SOON, start_s=1e6)
    arrivals = Poisson(3 * ONE_REPLICA_PER_S, URGENT)
    alone = simulate_fleet(arrivals, TABLE, replicas=1, requests=9_000)
    waiting = simulate_fleet(arrivals, TABLE, replicas=1, requests=9_000, autoscaling=never)
    assert waiting.most_replicas > 2
    assert waiting.requests.in_time == alone.requests.in_time
    assert waiting.replica_s > 1.5 * alone.replica_s


def test_there_are_never_fewer_or_more_replicas_than_allowed() -> None:
    bounded = dataclasses.replace(SOON, least=2, most=4)
    for rate in (1.0, 20.0 * ONE_REPLICA_PER_S):
        result = simulate_fleet(
            Poisson(rate, URGENT), TABLE, replicas=3, requests=30_000 if rate > 1 else 20, autoscaling=bounded
        )
        assert all(2 <= count <= 4 for _, count in result.scaled)
        assert result.scaled[-1][1] == (4 if rate > 1 else 2)


def test_a_result_is_plain_data_and_no_good_answer_costs_no_number() -> None:
    nothing = simulate_fleet(Poisson(100, URGENT), TABLE, replicas=2, requests=5, drain=False, network_ms=30)
    assert math.isinf(nothing.replica_s_per_1000_good)
    plain = json.loads(json.dumps(nothing.as_dict()))
    assert plain["replica_s_per_1000_good"] is None and plain["requests"]["in_time"] == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"replicas": 0}, "replicas must be at least 1, not 0"),
        ({"instances": 0}, "instances must be at least 1"),
        ({"requests": 0}, "requests must be at least 1"),
        ({"replicas": 10**9}, "at most 100000 instances, not 1000000000 replicas of 1"),
        ({"instances": 10**9}, "at most 100000 instances, not 1 replicas of 1000000000"),
        (
            {"autoscaling": Autoscaling("utilisation", 0.7, interval_s=1e-9)},
            "interval_s of 1e-09 makes more than 200000 decisions",
        ),
        ({"router": "best"}, "router must be one of round_robin, "),
        ({"stale_ms": -1}, "stale_ms must be from 0 to 31536000000, a year, not -1"),
        ({"slow_share": 1.5}, "slow_share must be from 0 to 1 and slow_factor at least 1, not 1.5 and 2.0"),
        ({"slow_factor": 0.5}, "not 0.0 and 0.5"),
        ({"network_ms": math.inf}, "network_ms must be from 0 to 31536000000, a year, not inf"),
    ],
)
def test_wrong_values_are_refused_in_one_sentence(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        simulate_fleet(Poisson(1), TABLE, **{"replicas": 1, **wrong})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"metric": "load"}, "metric must be one of utilisation, rows_per_s, replicas_needed, not 'load'"),
        ({"target": 0.0}, "target must be a positive number, not 0.0"),
        ({"interval_s": math.nan}, "interval_s must be a positive number"),
        ({"start_s": -1.0}, "start_s must be from 0 to 31536000, a year, not -1.0"),
        ({"hold_s": 1e300}, "hold_s must be from 0 to 31536000, a year"),
        ({"most": 10**9}, "least and most must be from 1 to 100000"),
        ({"least": 3, "most": 2}, "most no less than least, not 3 and 2"),
    ],
)
def test_wrong_ways_to_scale_are_refused_in_one_sentence(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Autoscaling(**{"metric": "utilisation", "target": 0.5, **wrong})


def test_waves_that_are_too_many_to_draw_are_refused_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match="period_s of 1e-300 makes more than 10000 waves of 10000"):
        simulate_fleet(Wave(1, period_s=1e-300), TABLE, replicas=1)
