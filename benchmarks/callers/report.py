"""Makes the measurements of bench_engine, each in a process of its own: Paddle's settings are process-wide.

``python -m benchmarks.callers.report NAME [--quick]`` prints one section as JSON.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.baselines import Bare, Locked, Process, processes_rate
from benchmarks.callers import ainfer_stages, figures
from benchmarks.callers.rounds import PLANS
from benchmarks.harness import (
    Callers,
    Effort,
    Section,
    answers,
    check_equal,
    differences,
    interleave,
    p50_us,
    ratios,
    spread,
)
from benchmarks.models import MODELS, directory
from paddleinfer import Engine

BATCH = 4
LOCKED_CALLERS = 8


def gil(effort: Effort) -> Section:
    """Figure 1."""
    feeds = MODELS["mobilenet_v2"].feed(BATCH)
    bare = Bare(directory("mobilenet_v2"))
    with Engine(directory("mobilenet_v2"), instances=1) as engine:
        check_equal(engine.infer(feeds), bare(feeds))
        ours = Callers([functools.partial(engine.infer, feeds)])
        theirs = Callers([functools.partial(bare, feeds)])
        variants = {
            "nothing runs": lambda: counting(effort.seconds),
            "the engine runs": lambda: counting_beside(ours, effort.seconds),
            "Paddle's run() runs": lambda: counting_beside(theirs, effort.seconds),
        }
        speeds = interleave(variants, effort.rounds)
    section = Section(
        "1. Speed of a counting Python thread while one instance runs mobilenet_v2, batch 4",
        ["beside it", "speed", "unit", "of idle"],
    )
    idle = speeds["nothing runs"]
    for name, values in speeds.items():
        kept = statistics.median(ratios(values, idle))
        section.measured(name, [value / 1e6 for value in values], "million/s", f"{kept:.0%}")
    kept = statistics.median(ratios(speeds["the engine runs"], idle))
    section.verdict("speed kept beside the engine", kept, at_least=0.9)
    return section


def counting(seconds: float) -> float:
    """Returns counts per second of a thread that only counts."""
    result = []

    def count() -> None:
        clock = time.perf_counter
        begin = clock()
        counted = 0
        while (elapsed := clock() - begin) < seconds:
            for _ in range(1000):
                counted += 1
        result.append(counted / elapsed)

    counter = threading.Thread(target=count)
    counter.start()
    counter.join()
    return result[0]


def counting_beside(callers: Callers, seconds: float) -> float:
    """Returns the same while the callers keep a model running."""
    ended = threading.Event()

    def keep_running(call: Callable[[], Any]) -> None:
        while not ended.is_set():
            call()

    running = threading.Thread(target=callers.each, args=(keep_running,))
    running.start()
    speed = counting(seconds)
    ended.set()
    running.join()
    return speed


def scaling(effort: Effort) -> Section:
    """Figure 2."""
    feeds = MODELS["mobilenet_v2"].feed(BATCH)
    path = directory("mobilenet_v2")
    processes = [Process("mobilenet_v2", BATCH) for _ in range(2)]
    with Engine(path, instances=1) as one, Engine(path, instances=2) as two:
        check_equal(one.infer(feeds), processes[0].outputs)
        check_equal(two.infer(feeds), one.infer(feeds))
        alone = Callers([functools.partial(one.infer, feeds)])
        both = Callers([functools.partial(two.infer, feeds)] * 2)
        variants = {
            "engine, 1 instance, 1 caller": lambda: BATCH * alone.rate(effort.seconds),
            "engine, 2 instances, 2 callers": lambda: BATCH * both.rate(effort.seconds),
            "bare run(), 1 process": lambda: BATCH * processes_rate(processes[:1], effort.seconds),
            "bare run(), 2 processes": lambda: BATCH * processes_rate(processes, effort.seconds),
        }
        rates = interleave(variants, effort.rounds)
    section = Section(
        "2. Two instances against one on mobilenet_v2, batch 4", ["variant", "rows/s", "unit", "of one"]
    )
    for name, values in rates.items():
        ones = rates["engine, 1 instance, 1 caller" if name.startswith("engine") else "bare run(), 1 process"]
        section.measured(name, values, "rows/s", f"{statistics.median(ratios(values, ones)):.2f}")
    work = ratios(rates["engine, 2 instances, 2 callers"], rates["engine, 1 instance, 1 caller"])
    section.verdict("work of two instances over one", statistics.median(work), at_least=1.8)
    for process in processes:
        process.close()
    return section


def latency(effort: Effort) -> Section:
    """Figure 3."""
    path, feeds = directory("mlp"), MODELS["mlp"].feed(1)
    as_it_comes = Process("mlp", 1)
    # The engine comes first, so that what it sets before Paddle's import also holds for the bare loop.
    made = functools.partial(Engine, path, onednn=False, instances=1)
    with made() as inline, made(inline=False) as handed_over:
        bare = Bare(path, as_engine=True, onednn=False)
        for engine in (inline, handed_over):
            check_equal(engine.infer(feeds), bare(feeds))
            check_equal(engine.infer(feeds), as_it_comes.outputs)
        variants: dict[str, Callable[[], float]] = {
            "infer, inline": lambda: p50_us(functools.partial(inline.infer, feeds), effort.calls),
            "infer, handed over": lambda: p50_us(functools.partial(handed_over.infer, feeds), effort.calls),
            "Paddle's loop, same settings": lambda: p50_us(functools.partial(bare, feeds), effort.calls),
            "Paddle's loop, as it comes": lambda: asked_p50(as_it_comes, effort.calls),
        }
        for variant in variants.values():
            variant()
        taken = interleave(variants, 3 * effort.rounds)
    as_it_comes.close()
    section = Section(
        "3. One caller, back to back, MLP, batch 1, oneDNN off: p50 of one call",
        ["variant", "us", "unit", "against the same settings"],
    )
    same = taken["Paddle's loop, same settings"]
    for name, values in taken.items():
        section.measured(name, values, "us", f"{statistics.median(differences(values, same)):+.1f} us")
    gain = statistics.median(differences(same, taken["infer, inline"]))
    section.verdict("us faster, inline", gain, at_least=5)
    loss = statistics.median(differences(taken["infer, handed over"], same))
    section.verdict("us slower, handed over", loss, at_most=15)
    speedup = statistics.median(ratios(taken["Paddle's loop, as it comes"], taken["infer, inline"]))
    section.verdict("times faster than Paddle as it comes", speedup, at_least=1.3)
    return section


def asked_p50(process: Process, calls: int) -> float:
    """Returns the median microseconds of a call in the other process."""
    process.ask("p50", calls)
    return float(process.answer())


def load(effort: Effort) -> Section:
    """Figure 6."""
    import paddle.inference  # noqa: F401 - not part of what is timed

    section = Section("6. Loading, without import paddle", ["model", "ms", "unit", "of Paddle's own"])
    for name in ("wide_mlp", "mobilenet_v2"):
        for format in ("json", "legacy"):
            path = directory(name, format)
            feeds = MODELS[name].feed(1)
            with Engine(path, instances=1) as engine:
                check_equal(engine.infer(feeds), Bare(path, as_engine=True)(feeds))
            variants = {
                f"{name} {format}, Engine": lambda path=path: load_ms(lambda: Engine(path, instances=1)),
                f"{name} {format}, Paddle": lambda path=path: load_ms(lambda: Bare(path, as_engine=True)),
            }
            taken = interleave(variants, effort.rounds)
            ours, theirs = taken.values()
            ratio = statistics.median(ratios(ours, theirs))
            section.measured(f"{name} {format}, Paddle", theirs, "ms", "1.00")
            section.measured(f"{name} {format}, Engine", ours, "ms", f"{ratio:.2f}")
            section.verdict(f"load time over Paddle's, {name} {format}", ratio, at_most=1.2)
    return section


def load_ms(make: Callable[[], Any]) -> float:
    """Returns the milliseconds to make it; ending it is not counted."""
    begin = time.perf_counter()
    made = make()
    taken = (time.perf_counter() - begin) * 1e3
    if isinstance(made, Engine):
        made.close()
    return taken


def compare(name: str, effort: Effort) -> Section:
    """Compares the variants on one model, everything with its defaults."""
    section = Section(f"{name}: rows per second", ["batch", "variant", "rows/s", "unit", "of one bare loop"])
    for batch in MODELS[name].batches:
        for variant, values in compare_at(name, batch, effort).items():
            section.raw[f"batch {batch}, {variant}"] = values
        ones = section.raw[f"batch {batch}, bare run(), 1 process"]
        for key, values in list(section.raw.items()):
            at, variant = key.split(", ", 1)
            if at == f"batch {batch}":
                times = statistics.median(ratios(values, ones))
                section.rows.append([str(batch), variant, spread(values), "rows/s", f"{times:.2f}"])
    return section


def compare_at(name: str, batch: int, effort: Effort) -> dict[str, list[float]]:
    """Returns rows per second of every variant."""
    path, feeds = directory(name), MODELS[name].feed(batch)
    processes = [Process(name, batch) for _ in range(2)]
    # They run before the engines, which may change process-wide settings.
    bares = [Bare(path) for _ in range(2)]
    locked = Locked(Bare(path))
    with Engine(path, instances=1) as one, Engine(path, instances=2) as two:
        check_equal(one.infer(feeds), bares[0](feeds))
        check_equal(two.infer(feeds), processes[0].outputs)
        callers = {
            "engine, 1 instance, 1 caller": Callers([functools.partial(one.infer, feeds)]),
            "engine, 2 instances, 2 callers": Callers([functools.partial(two.infer, feeds)] * 2),
            f"engine, 2 instances, {LOCKED_CALLERS} callers": Callers(
                [functools.partial(two.infer, feeds)] * LOCKED_CALLERS
            ),
            "one predictor per thread, 2 threads": Callers(
                [functools.partial(bare, feeds) for bare in bares]
            ),
            f"one locked predictor, {LOCKED_CALLERS} callers": Callers(
                [functools.partial(locked, feeds)] * LOCKED_CALLERS
            ),
        }
        variants: dict[str, Callable[[], float]] = {
            "bare run(), 1 process": lambda: batch * processes_rate(processes[:1], effort.seconds),
            "bare run(), 2 processes": lambda: batch * processes_rate(processes, effort.seconds),
        }
        for variant, threads in callers.items():
            variants[variant] = lambda threads=threads: batch * threads.rate(effort.seconds)  # type: ignore[misc]
        measured = interleave(variants, effort.rounds)
        for threads in callers.values():
            threads.close()
    for process in processes:
        process.close()
    return measured


FIGURES: dict[str, Callable[[Effort], Section]] = {
    "gil": gil,
    "scaling": scaling,
    "latency": latency,
    "load": load,
    "ainfer": ainfer_stages.stages,
    **{name: functools.partial(compare, name) for name in MODELS},
    **{f"callers-{name}": functools.partial(figures.section, name) for name in PLANS},
}


def main() -> None:
    """Prints one section as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("name", choices=FIGURES)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    stream = answers()
    json.dump(asdict(FIGURES[options.name](Effort.of(options.quick))), stream)
    stream.close()


if __name__ == "__main__":
    main()
