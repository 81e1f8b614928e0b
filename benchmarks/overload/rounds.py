"""Runs the rounds of bench_overload: finds a model's capacity, then loads every variant with twice that."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.baselines import Process
from benchmarks.harness import Effort
from benchmarks.overload.variants import ROWS, Full, Overload, Variant

FACTOR = 2.0

ADAPTIVE, ADAPTIVE_UVLOOP, EAGER, BATCHER = (
    "adaptive",
    "adaptive, ainfer on uvloop",
    "eager",
    "40-line batcher",
)


@dataclass(frozen=True)
class Serving:
    """How a variant is served."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


def _fixed_delay(ms: int) -> Serving:
    return Serving("thread", {"policy": "fixed_delay", "max_queue_delay_us": 1000 * ms})


VARIANTS = {
    ADAPTIVE: Serving("thread"),
    ADAPTIVE_UVLOOP: Serving("uvloop"),
    EAGER: Serving("thread", {"policy": "eager"}),
    "fixed_delay, 2 ms": _fixed_delay(2),
    "fixed_delay, 10 ms": _fixed_delay(10),
    BATCHER: Serving("batcher"),
}
# The variants that find the capacity: the most that any of them gets done in time at any rate.
CAPABLE = (ADAPTIVE, EAGER)
# How many rates the search offers (quick or not); each is above or below the last, which was met or not.
RATES = {False: 6, True: 4}
# The range of the search, relative to the rate of full batches.
LOWEST, HIGHEST = 0.2, 1.1
MET = 0.99


@dataclass(frozen=True)
class Lengths:
    """Seconds of each load."""

    rounds: int
    looking: float
    overload: float
    full: float

    @classmethod
    def of(cls, effort: Effort, quick: bool) -> Lengths:
        """Returns short lengths with `quick`, to see that everything works."""
        return cls(2, 1.0, 2.0, 0.3) if quick else cls(effort.rounds // 3, 3.0, 30.0, 1.0)


@dataclass
class Measured:
    """Everything measured on one model, round by round."""

    full: list[Full]
    found: list[float] = field(default_factory=list)
    """The most requests a second that the search got done in time; twice that was offered then."""
    offered: list[tuple[str, float, Overload]] = field(default_factory=list)
    """(variant, rate, result) of every load of the search."""
    loads: dict[str, list[Overload]] = field(default_factory=lambda: {variant: [] for variant in VARIANTS})

    @property
    def capacity(self) -> list[float]:
        """The capacity found, or what a variant then got done in time, if that was more."""
        rounds = zip(*self.loads.values(), strict=True)
        return [
            max(found, *(load.in_time_per_s for load in loads))
            for found, loads in zip(self.found, rounds, strict=True)
        ]

    @property
    def full_rows_per_s(self) -> float:
        """Rows per second of the best full batches, however long they take."""
        return max(full.rows_per_s for full in self.full)


def measure(model: str, lengths: Lengths, quick: bool, say: Callable[[str], None]) -> Measured:
    """All rounds."""
    with contextlib.closing(Process(model, 1)) as plain:
        plain.ask("answers", ROWS)
        expected = plain.answer()
    start = functools.partial(_start, model, expected)
    with contextlib.ExitStack() as closing:
        capable = {
            variant: closing.enter_context(contextlib.closing(start(variant, {}))) for variant in CAPABLE
        }
        in_force = capable[ADAPTIVE].in_force
        environment = {"MKL_DEBUG_CPU_TYPE": "5"} if in_force["mkl_amd"] else {}
        measured = Measured(capable[ADAPTIVE].full(lengths.full))
        for turn in range(lengths.rounds):
            capacity = _capacity(measured, capable, lengths, RATES[quick], turn)
            measured.found.append(capacity)
            say(f"round {turn + 1} of {lengths.rounds}: capacity {capacity:,.0f} requests/s")
            names = list(VARIANTS)
            first = turn % len(names)
            for variant in names[first:] + names[:first]:
                with contextlib.closing(start(variant, environment)) as process:
                    load = process.load(FACTOR * capacity, lengths.overload, turn)
                measured.loads[variant].append(load)
    return measured


def _start(model: str, expected: Any, variant: str, environment: Mapping[str, str]) -> Variant:
    serving = VARIANTS[variant]
    return Variant(model, serving.kind, expected, serving.options, environment)


def _capacity(
    measured: Measured, capable: Mapping[str, Variant], lengths: Lengths, rates: int, turn: int
) -> float:
    """Halves the range of rates, and returns the most that was done in time at any of them.

    It goes by what was done and not by the rates that were met: if the machine stumbles once, a rate is not
    met and the search goes on too low, but what was done counts.
    """
    low, high = LOWEST * measured.full_rows_per_s, HIGHEST * measured.full_rows_per_s
    most = 0.0
    for step in range(rates):
        rate = (low + high) / 2
        met = False
        for variant, process in capable.items():
            load = process.load(rate, lengths.looking, 100 * turn + step)
            measured.offered.append((variant, rate, load))
            most = max(most, load.in_time_per_s)
            met = met or load.in_time >= MET
        low, high = (rate, high) if met else (low, rate)
    return most
