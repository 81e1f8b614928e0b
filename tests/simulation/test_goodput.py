"""The expected goodput and latency for deadlines of 50 ms, checked in the simulator."""

from __future__ import annotations

import functools

import pytest
from simulation_helpers import (
    TABLE,
    URGENT,
)

from paddleinfer.simulation import POLICIES, SimulationResult, simulate
from paddleinfer.simulation.arrivals import Bursty, Poisson, RequestKind
from paddleinfer.simulation.latency_table import LatencyTable, attainable_goodput, capacity

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
