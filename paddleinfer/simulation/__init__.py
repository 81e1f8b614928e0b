"""Simulates on a virtual clock what the scheduler would do under a hypothetical load.

``python -m paddleinfer.simulation`` compares policies over a range of loads.
May import: options, the engine's reports.
"""

from paddleinfer.simulation.arrivals import Bursty, ClosedLoop, Poisson, Recorded, RequestKind, Wave
from paddleinfer.simulation.autoscaling import Autoscaling
from paddleinfer.simulation.comparison import main
from paddleinfer.simulation.fleet import ROUTERS, FleetResult, simulate_fleet
from paddleinfer.simulation.latency_table import LatencyTable, attainable_goodput, capacity
from paddleinfer.simulation.simulation import (
    POLICIES,
    Policy,
    SimulationResult,
    simulate,
)

__all__ = [
    "POLICIES",
    "ROUTERS",
    "Autoscaling",
    "Bursty",
    "ClosedLoop",
    "FleetResult",
    "LatencyTable",
    "Poisson",
    "Policy",
    "Recorded",
    "RequestKind",
    "SimulationResult",
    "Wave",
    "attainable_goodput",
    "capacity",
    "main",
    "simulate",
    "simulate_fleet",
]
