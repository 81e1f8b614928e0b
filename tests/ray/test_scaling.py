"""How many replicas the autoscaler makes of what engines report."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from paddleinfer.ray import replicas_for_load


def context(needed: list[float] | None, queued: float = 0.0, running: float = 0.0) -> Any:
    """A deployment whose number of replicas is to be three."""
    figures = {} if needed is None else {"replicas_needed": dict(enumerate(needed))}
    return SimpleNamespace(
        aggregated_metrics=figures,
        total_queued_requests=queued,
        total_running_requests=running,
        target_num_replicas=3,
    )


@pytest.mark.parametrize(
    ("needed", "replicas"),
    [([0.5], 1), ([0.5, 0.5], 1), ([0.7, 0.7], 2), ([1.4, 1.4, 1.4], 5), ([0.0, 0.0], 0)],
)
def test_the_policy_adds_up_what_the_replicas_need(needed: list[float], replicas: int) -> None:
    assert replicas_for_load(context(needed)) == (replicas, {})


@pytest.mark.parametrize("needed", [None, []])
def test_the_policy_keeps_the_number_before_the_first_report(needed: list[float] | None) -> None:
    assert replicas_for_load(context(needed, queued=50)) == (3, {})


def test_requests_that_wait_before_the_engines_count_too() -> None:
    assert replicas_for_load(context([1.4], queued=100, running=100)) == (3, {})
    assert replicas_for_load(context([0.1], queued=10, running=0)) == (2, {})
