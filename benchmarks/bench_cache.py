"""What the cache of results costs and saves: a hit and a miss against a run without it, by size of the input.

``miss`` has ``cache_bytes`` and asks for what nobody has asked for before: what it takes longer than a run
without the cache is what a miss costs. ``together`` asks from several threads at once: equal requests take
one run.

``python -m benchmarks.bench_cache [--quick] [--json FILE]``
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from benchmarks import harness
from benchmarks.harness import Callers, Section, interleave, p50_us, ratios
from benchmarks.models import directory
from paddleinfer import Engine

CACHE_BYTES = 256 << 20
CALLS = 200
ROUNDS = 15
QUICK_ROUNDS = 3
THREADS = 8
WINDOW_S = 0.3

MODELS = {"mlp": (1, 128), "wide_mlp": (1, 512), "mobilenet_v2": (1, 3, 224, 224)}

NEVER, AGAIN, HIT, MISS = "without a cache", "without a cache, again", "hit", "miss"


def fresh(shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Arrays of which no two are equal."""
    x = np.ones(shape, np.float32)
    for number in itertools.count():
        x.flat[0] = number
        yield x


def measure(model: str, shape: tuple[int, ...], rounds: int) -> Section:
    """One caller, one call after the other."""
    section = Section(
        f"{model}, {4 * int(np.prod(shape)):,} bytes of input, one caller: "
        f"medians of {CALLS} calls, {rounds} rounds that alternate",
        ["call", "us", "of a run without a cache"],
    )
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(Engine(directory(model), instances=1))
        cached = stack.enter_context(Engine(directory(model), instances=1, cache_bytes=CACHE_BYTES))
        x, inputs = np.full(shape, -1, np.float32), fresh(shape)
        ways: dict[str, Callable[[], object]] = {
            NEVER: lambda: plain.infer([x]),
            AGAIN: lambda: plain.infer([x]),
            HIT: lambda: cached.infer([x]),
            MISS: lambda: cached.infer([next(inputs)]),
        }
        harness.check_equal(cached.infer([x]), plain.infer([x]))
        harness.check_equal(cached.infer([x]), plain.infer([x]))
        for call in ways.values():
            for _ in range(20):
                call()
        taken = interleave({name: partial(p50_us, call, CALLS) for name, call in ways.items()}, rounds)
        for name, values in taken.items():
            share = statistics.median(ratios(values, taken[NEVER]))
            section.measured(name, values, f"{share:.3f}")
    section.verdict("a hit, of a run", statistics.median(ratios(taken[HIT], taken[NEVER])), at_most=1.0)
    return section


def together(model: str, shape: tuple[int, ...], rounds: int) -> Section:
    """Threads that go through the same inputs at the same time."""
    section = Section(
        f"{model}, {THREADS} threads that go through the same inputs at the same time: "
        f"{rounds} rounds of {WINDOW_S:g} s that alternate",
        ["engine", "results/s", "of those without a cache", "runs a result"],
    )
    with contextlib.ExitStack() as stack:
        engines = {
            NEVER: stack.enter_context(Engine(directory(model))),
            HIT: stack.enter_context(Engine(directory(model), cache_bytes=CACHE_BYTES)),
        }
        runs: dict[str, list[float]] = {name: [] for name in engines}
        callers = {}
        for name, engine in engines.items():
            callers[name] = Callers([_asking(engine, shape) for _ in range(THREADS)])
            stack.callback(callers[name].close)

        def rate(name: str) -> float:
            before = engines[name].stats()
            rate = callers[name].rate(WINDOW_S)
            after = engines[name].stats()
            results = after["results"] - before["results"]
            runs[name].append((after["executed_rows"] - before["executed_rows"]) / results)
            return rate

        rates = interleave({name: partial(rate, name) for name in engines}, rounds)
        for name, values in rates.items():
            share = statistics.median(ratios(values, rates[NEVER]))
            title = "with cache_bytes" if name == HIT else name
            section.measured(title, values, f"{share:.3f}", f"{statistics.median(runs[name]):.3f}")
    return section


def _asking(engine: Engine, shape: tuple[int, ...]) -> Callable[[], object]:
    inputs = fresh(shape)
    return lambda: engine.infer([next(inputs)])


def main() -> None:
    """See the module."""
    options = harness.options_of(__doc__)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    sections = {model: measure(model, shape, rounds) for model, shape in MODELS.items()}
    sections["together"] = together("wide_mlp", MODELS["wide_mlp"], rounds)
    for section in sections.values():
        harness.show(section)
    if options.json:
        harness.write_json(options.json, sections, {"rounds": rounds, "calls": CALLS})


if __name__ == "__main__":
    main()
