"""A policy of Ray Serve's autoscaler: as many replicas as the engines say that their load takes."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["replicas_for_load"]

# By how much one decision lets a queue before the replicas raise their number.
_MOST_GROWTH = 2.0

# Serve sends this module to its controller as it stands, so it imports nothing of the package.


def replicas_for_load(context: Any) -> tuple[int, dict[str, Any]]:
    """Decides how many replicas a deployment of `paddleinfer.ray.deployment` should have.

    It adds up ``replicas_needed`` of all replicas (``Engine.scaling_signals``). Requests that wait in Serve's
    routers have not reached an engine, so they count as if they ran like those that have, and at most double
    the number. Before the first report the number stays as it is. Serve applies ``min_replicas``,
    ``max_replicas``, delays and factors to the result.

    Parameters
    ----------
    context
        Serve's ``AutoscalingContext``.

    Returns
    -------
    tuple
        The number of replicas, and an empty state.
    """
    metrics = context.aggregated_metrics or {}
    reported = list(metrics.get("replicas_needed", {}).values())
    if not reported:
        return context.target_num_replicas, {}
    needed = sum(reported)
    queued = context.total_queued_requests or 0.0
    if queued > 0:
        waiting = min(_MOST_GROWTH, 1.0 + queued / max(1.0, context.total_running_requests))
        needed = max(needed, float(len(reported))) * waiting
    return math.ceil(needed - 1e-9), {}
