"""Measures what recording and scraping cost: throughput without recording, by default, and in a trace.

The callers never pause; the recording changes every tenth of a second, so that a longer slow spell of the
machine slows every variant alike. ``nothing, again`` shows how far a variant differs from itself.

``python -m benchmarks.bench_trace [--quick] [--json FILE]``
"""

from __future__ import annotations

import contextlib
import functools
import gc
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks import harness
from benchmarks.harness import Section, interleave, ratios
from benchmarks.models import directory
from paddleinfer import Engine
from paddleinfer.metrics import exposition

MODEL = "mlp"
IN_FLIGHT = 8
WINDOW_S = 0.1
SETTLING_S = 0.01
ROUNDS = 150
QUICK_ROUNDS = 10
LEAST_SHARE = 0.98


@dataclass(frozen=True)
class Variant:
    """The recording and scraping beside the callers."""

    kept_requests: int = 0
    scraped: bool = False
    """Whether it is scraped once in each window, ten times a second; real scrapers come every 15 s or so."""


NOTHING = "nothing"
VARIANTS = {
    NOTHING: Variant(),
    "nothing, again": Variant(),
    "the last 4,096, the default": Variant(4096),
    "the last 100,000, a trace": Variant(100_000),
    "nothing, scraped ten times a second": Variant(scraped=True),
}


def several(engine: Engine) -> None:
    """Submits several requests at once, so that the callers cost little beside the engine."""
    x = np.ones((1, 128), np.float32)
    for future in [engine.submit([x]) for _ in range(IN_FLIGHT)]:
        future.result()


def one(engine: Engine) -> None:
    """Makes one request and waits for it."""
    engine.infer([np.ones((1, 128), np.float32)])


CALLERS = {
    f"16 callers with {IN_FLIGHT} futures each": (16, several),
    "one caller of infer": (1, one),
}


@contextlib.contextmanager
def calling(engine: Engine, callers: int, call: Callable[[Engine], None]) -> Iterator[None]:
    """Has so many threads call without a pause during the block with the windows."""
    over = threading.Event()

    def calls() -> None:
        while not over.is_set():
            call(engine)

    threads = [threading.Thread(target=calls) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def throughput(engine: Engine, variant: Variant) -> float:
    """Returns results a second in one window."""
    with engine.trace(variant.kept_requests) if variant.kept_requests else contextlib.nullcontext():
        time.sleep(SETTLING_S)
        results = engine.stats()["results"]
        begin = time.perf_counter()
        if variant.scraped:
            exposition({MODEL: engine})
        time.sleep(max(0.0, begin + WINDOW_S - time.perf_counter()))
        return float(engine.stats()["results"] - results) / (time.perf_counter() - begin)


def measure(title: str, callers: int, call: Callable[[Engine], None], rounds: int) -> Section:
    """Measures requests of one row each to one engine."""
    with (
        Engine(directory(MODEL), batchable=True, trace_requests=0) as engine,
        calling(engine, callers, call),
    ):
        time.sleep(10 * WINDOW_S)
        # The windows are short, so a collection of all imported objects would hit a single variant.
        gc.collect()
        gc.freeze()
        rates = interleave(
            {name: functools.partial(throughput, engine, variant) for name, variant in VARIANTS.items()},
            rounds,
        )
    section = Section(
        f"{MODEL}, {title}: medians of {rounds} windows of {WINDOW_S:g} s (and quarters)",
        ["recorded", "results/s", "of nothing recorded"],
    )
    for name, values in rates.items():
        shares = ratios(values, rates[NOTHING])
        section.raw[name] = values
        section.rows.append([name, f"{statistics.median(values):,.0f}", quarters(shares)])
        if VARIANTS[name].kept_requests:
            section.verdict(f"throughput, {name}", statistics.median(shares), at_least=LEAST_SHARE)
    return section


def quarters(shares: list[float]) -> str:
    """Writes the median (first to third quartile)."""
    first, median, third = statistics.quantiles(shares, n=4)
    return f"{median:.3f} ({first:.3f} to {third:.3f})"


def main() -> None:
    """Measures, prints and writes; the module describes it."""
    options = harness.options_of(__doc__)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    sections = {}
    for title, (callers, call) in CALLERS.items():
        sections[title] = measure(title, callers, call, rounds)
        harness.show(sections[title])
    if options.json:
        harness.write_json(options.json, sections, {"rounds": rounds, "window_s": WINDOW_S})


if __name__ == "__main__":
    main()
