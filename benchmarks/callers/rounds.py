"""Plans which variants callers use on each model, and runs the rounds that measure them."""

from __future__ import annotations

import contextlib
import functools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.baselines import Process, processes_rate
from benchmarks.callers.variants import LOCKED, MOST_CALLERS, PER_THREAD, POOL, PREDICTORS, Server
from benchmarks.harness import Effort, Helper, interleave
from benchmarks.load.closed_loop import Load

# Callers -> their share of a variant's seconds: with more of them it takes longer to serve each.
WINDOWS = {1: 0.2, 8: 0.3, MOST_CALLERS: 0.5}
WARM_UP = 0.5

DEFAULTS = "engine"
NO_ONEDNN = "engine without oneDNN"
ONE_INSTANCE = "engine without oneDNN, 1 instance"
AS_IT_COMES = "two bare processes, Paddle's defaults"

Options = Mapping[str, Any]
_WITHOUT: Options = {"onednn": False}


@dataclass(frozen=True)
class Plan:
    """The measurements on one model."""

    engines: Mapping[str, Options]
    """Name -> the engine's options."""
    onednn: bool | None = None
    """oneDNN for the baselines: the setting that serves these callers best."""
    batched_rows: int = 64
    """The batch size of the tuned package `batched`: the best of 8, 32 and 64."""
    locked_callers: int = MOST_CALLERS
    """The most callers of the locked predictor: with oneDNN each thread keeps a copy of the weights."""
    batches: tuple[int, ...] = (32,)
    """The batch sizes of the bare limit, which is the best of them."""
    as_it_comes: int | None = None
    """The batch size of two bare processes with Paddle's defaults."""
    slowness: float = 1.0
    """How much longer windows are, so that enough answers fall into them."""


PLANS = {
    "mlp": Plan(
        {DEFAULTS: {}, NO_ONEDNN: _WITHOUT, ONE_INSTANCE: {**_WITHOUT, "instances": 1}}, onednn=False
    ),
    "wide_mlp": Plan({DEFAULTS: {}, NO_ONEDNN: _WITHOUT}, locked_callers=8),
    "mobilenet_v2": Plan({DEFAULTS: {}}, batched_rows=8, batches=(1, 2, 4, 8), as_it_comes=8, slowness=2.0),
    "transformer": Plan({DEFAULTS: {}}),
    "ppocr_rec": Plan({DEFAULTS: {}}, batched_rows=8, batches=(1, 2, 6), as_it_comes=1, slowness=8.0),
}


def limit_of(onednn: bool | None) -> str:
    """Names the bare processes with the settings of an engine with this option."""
    return "two bare processes" + (" without oneDNN" if onednn is False else "")


@dataclass(frozen=True)
class Measured:
    """Everything measured on one model, round by round."""

    loads: dict[tuple[int, str], list[Load]] = field(default_factory=dict)
    """(callers, variant) -> what they got."""
    limits: dict[tuple[int, str], list[float]] = field(default_factory=dict)
    """(batch, processes) -> rows per second of both together."""

    def rates(self, callers: int, variant: str) -> list[float]:
        """Returns requests per second."""
        return [load.requests_per_s for load in self.loads[callers, variant]]

    def best(self, callers: int, start: str, end: str) -> str:
        """The variant with the highest median among those whose names begin and end so."""
        names = [
            variant
            for count, variant in self.loads
            if count == callers and variant.startswith(start) and variant.endswith(f", {end}")
        ]
        return max(names, key=lambda variant: statistics.median(self.rates(callers, variant)))

    def limit(self, processes: str) -> list[float]:
        """Returns rows per second at the best batch size."""
        rates = [values for (_, name), values in self.limits.items() if name == processes]
        return max(rates, key=statistics.median)


@dataclass(frozen=True)
class Opened:
    """The processes of one model, ready to be asked."""

    served: dict[str, tuple[Server, str]]
    """Variant -> (the server, the variant's name there)."""
    pairs: dict[str, list[Process]]

    def load(self, callers: int, variant: str, seconds: float) -> Load:
        """Runs callers on a variant."""
        server, name = self.served[variant]
        return server.load(name, callers, seconds)

    def limit(self, batch: int, processes: str, seconds: float) -> float:
        """Returns rows per second of two bare loops."""
        return batch * processes_rate(self.pairs[processes], seconds, batch)


def opened(model: str, plan: Plan, closing: contextlib.ExitStack) -> Opened:
    """Starts every process; `closing` ends them."""

    def kept(helper: Helper) -> Any:
        closing.callback(helper.close)
        return helper

    plain = kept(Process(model, 1))
    plain.ask("answers", MOST_CALLERS)
    serve = functools.partial(Server, model=model, expected=plain.answer())
    engines = {name: kept(serve("engine", options=options)) for name, options in plan.engines.items()}
    # The variables that an engine sets before Paddle's import belong to its settings.
    environments = {
        options.get("onednn"): {"MKL_DEBUG_CPU_TYPE": "5"} if engines[name].in_force["mkl_amd"] else {}
        for name, options in plan.engines.items()
    }
    settings = {"onednn": plan.onednn, "batch_size": plan.batched_rows}
    baselines = kept(serve("baselines", options=settings, environment=environments[plan.onednn]))
    served = {
        f"{name}, {variant}": (server, variant)
        for name, server in engines.items()
        for variant in server.variants
    }
    served |= {
        variant: (server, variant)
        for server in (baselines, kept(serve("onnx")))
        for variant in server.variants
    }
    pairs = {}
    for onednn, environment in environments.items():
        make = functools.partial(Process, model, 1, as_engine=True, onednn=onednn, environment=environment)
        pairs[limit_of(onednn)] = [kept(make()) for _ in range(2)]
    if plan.as_it_comes:
        pairs[AS_IT_COMES] = [kept(Process(model, plan.as_it_comes)) for _ in range(2)]
    return Opened(served, pairs)


def has_callers(plan: Plan, variant: str, callers: int) -> bool:
    """Tells whether this many callers make sense for the variant."""
    if variant == LOCKED:
        return callers <= plan.locked_callers
    return callers <= PREDICTORS if variant == PER_THREAD else callers > PREDICTORS or variant != POOL


def measure(model: str, effort: Effort) -> Measured:
    """Measures every variant with every number of callers, interleaved, after a warm-up of each."""
    plan = PLANS[model]
    seconds = effort.seconds * plan.slowness
    with contextlib.ExitStack() as closing:
        all_of_them = opened(model, plan, closing)
        loads = [
            (n, variant) for n in WINDOWS for variant in all_of_them.served if has_callers(plan, variant, n)
        ]
        limits = [
            (batch, name)
            for name in all_of_them.pairs
            for batch in ([plan.as_it_comes] if name == AS_IT_COMES else plan.batches)
            if batch
        ]
        for callers, variant in loads:
            if all_of_them.load(callers, variant, WARM_UP * WINDOWS[callers] * seconds).different:
                raise SystemExit(f"{model}, {variant}: answers differ from plain Paddle's: no comparison")
        variants: dict[tuple[int, str], Callable[[], Any]] = {
            (n, variant): functools.partial(all_of_them.load, n, variant, WINDOWS[n] * seconds)
            for n, variant in loads
        }
        for batch, name in limits:
            variants[batch, name] = functools.partial(
                all_of_them.limit, batch, name, WINDOWS[MOST_CALLERS] * seconds
            )
        rounds = interleave(variants, (effort.rounds + 1) // 2)
    return Measured({key: rounds[key] for key in loads}, {key: rounds[key] for key in limits})
