"""Measures many input shapes on PP-OCRv5's recogniser: memory over hundreds of widths, and pages of lines.

``python -m benchmarks.bench_shapes [--quick] [--only SECTION] [--model DIRECTORY] [--json FILE]``
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.baselines import Bare
from benchmarks.harness import REPOSITORY, Section, interleave, ratios, spread
from benchmarks.models import SEED
from benchmarks.real.lines import BATCHES, CALLERS, DEFAULTS, LINE_WIDTHS, LINES, PADDED, helper, lines
from paddleinfer import Engine

# The directory that `make real-models` unpacks.
MODEL = REPOSITORY / "build/real-models/PP-OCRv5_mobile_rec"
NARROWEST, WIDEST = 64, 1280

PLAIN = "plain Paddle, one predictor"
MEMORY_CALLERS = 4
WANTED_MEMORY = 1.5

TWO = "the same, two predictors in processes of their own, a page each"
WANTED_SPEED = 2.0


@dataclass(frozen=True)
class Effort:
    """How much to measure."""

    rounds: int
    widths: int
    pages: int

    @classmethod
    def of(cls, quick: bool) -> Effort:
        """Returns the effort of a quick look, or of figures to quote."""
        return cls(rounds=1, widths=60, pages=2) if quick else cls(rounds=3, widths=500, pages=7)


def resident_mb() -> float:
    """Returns the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def widths(count: int) -> list[int]:
    """Returns distinct widths in random order, spread over all that lines have."""
    spaced = np.linspace(NARROWEST, WIDEST, count).astype(int)
    return [int(width) for width in np.random.default_rng(SEED).permutation(np.unique(spaced))]


# -- memory ------------------------------------------------------------------------------------------


def memory(variant: str, model: Path, count: int) -> dict[str, Any]:
    """Measures, in a process of its own, the most resident memory over so many widths, each asked once."""
    sizes = widths(count)
    (widest,) = lines([WIDEST])
    images = (np.ascontiguousarray(widest[..., :width]) for width in sizes)
    most = resident_mb()
    note = ""
    with contextlib.ExitStack() as closing:
        if variant == PLAIN:
            bare = Bare(model)
            name = bare.predictor.get_input_names()[0]
            for image in images:
                bare({name: image})
                most = max(most, resident_mb())
        else:
            engine = closing.enter_context(Engine(model))
            callers = closing.enter_context(ThreadPoolExecutor(MEMORY_CALLERS))
            for _ in callers.map(engine.infer, images):
                most = max(most, resident_mb())
            note = engine.effective_config()["max_onednn_cache_bytes"]["note"]
    return {"most_mb": most, "note": note}


def memory_section(model: Path, effort: Effort) -> Section:
    """Measures the engine against plain Paddle."""
    table = Section(
        f"Most resident memory over {effort.widths} widths ({NARROWEST} to {WIDEST}), one row a request",
        ["variant", "MB", "of plain Paddle"],
    )
    measure: Callable[[str], Any] = lambda variant: harness.child(  # noqa: E731
        "bench_shapes", "--memory", variant, "--model", str(model), "--widths", str(effort.widths)
    )
    found = interleave(
        {variant: functools.partial(measure, variant) for variant in (PLAIN, DEFAULTS)}, effort.rounds
    )
    most = {variant: [answer["most_mb"] for answer in answers] for variant, answers in found.items()}
    part = ratios(most[DEFAULTS], most[PLAIN])
    table.measured(PLAIN, most[PLAIN], "")
    table.measured(DEFAULTS, most[DEFAULTS], spread(part))
    table.verdict("the engine's of plain Paddle's", statistics.median(part), at_most=WANTED_MEMORY)
    print(f"\n{found[DEFAULTS][-1]['note']}")
    return table


# -- a page of lines ---------------------------------------------------------------------------------


def _read(helpers: Sequence[harness.Helper]) -> tuple[float, float]:
    """Has all helpers read a page at once; returns lines per second and processor milliseconds per line."""
    for one in helpers:
        one.tell("a page")
    answers = [one.answer() for one in helpers]
    rate = sum(LINES / answer["seconds"] for answer in answers)
    return rate, 1e3 * statistics.fmean(answer["cpu_s"] for answer in answers) / LINES


def lines_section(model: Path, effort: Effort) -> Section:
    """Measures lines per second; every page has widths of its own, as real pages have."""
    table = Section(
        f"{LINES} lines of as many widths ({LINE_WIDTHS[0]} to {LINE_WIDTHS[1]}), {CALLERS} threads",
        ["variant", "lines/s", "of plain batches", "CPU ms a line"],
    )
    with contextlib.ExitStack() as closing:

        def started(variant: str) -> harness.Helper:
            return closing.enter_context(contextlib.closing(helper(variant, model, effort.pages)))

        variants = {
            BATCHES: [started(BATCHES)],
            TWO: [started(BATCHES), started(BATCHES)],
            DEFAULTS: [started(DEFAULTS)],
            PADDED: [started(PADDED)],
        }
        found = interleave(
            {variant: functools.partial(_read, helpers) for variant, helpers in variants.items()},
            effort.pages,
        )
    rates = {variant: [rate for rate, _ in each] for variant, each in found.items()}
    for variant, each in rates.items():
        part = ratios(each, rates[BATCHES])
        work = [cpu_ms for _, cpu_ms in found[variant]]
        table.raw |= {
            f"{variant}, lines/s": each,
            f"{variant}, of plain batches": part,
            f"{variant}, CPU ms": work,
        }
        table.rows.append([variant, spread(each), spread(part), spread(work)])
        if variant in (DEFAULTS, PADDED):
            table.verdict(f"{variant}: of plain batches", statistics.median(part), at_least=WANTED_SPEED)
    return table


SECTIONS = {"memory": memory_section, "lines": lines_section}


def main() -> None:
    """Measures, prints, and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_shapes", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a short and noisy run, to see that everything works"
    )
    parser.add_argument("--only", choices=SECTIONS, help="one section")
    parser.add_argument("--model", type=Path, default=MODEL, help="directory of the recogniser")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    parser.add_argument("--widths", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    effort = Effort.of(options.quick)
    if options.memory:
        stream = harness.answers()
        json.dump(memory(options.memory, options.model, options.widths), stream)
        stream.close()
        return
    if not options.model.is_dir():
        raise SystemExit(f"{options.model} is missing: make real-models fetches it")
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    done = {}
    for name in [options.only] if options.only else SECTIONS:
        done[name] = SECTIONS[name](options.model, effort)
        harness.show(done[name])
    if options.json:
        harness.write_json(options.json, done, asdict(effort))


if __name__ == "__main__":
    main()
