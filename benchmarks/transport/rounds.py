"""Runs the rounds of bench_transport: one request at a time on every variant, in stages."""

from __future__ import annotations

import functools
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from benchmarks import harness
from benchmarks.harness import Effort, Section, differences, interleave, spread
from benchmarks.transport.variants import CASES, IN_PROCESS, Array, Case, Variant, opened

STAGES = ("encode", "round trip", "decode")
WHOLE = "all"
_FEWEST_CALLS = 5


@dataclass(frozen=True)
class Cost:
    """Microseconds of one request, the medians of a window."""

    stages: dict[str, float]
    whole: float


def cost(variant: Variant, row: Array, seconds: float) -> Cost:
    """Repeats a request for so long."""
    clock = time.perf_counter_ns
    variant.begin()
    taken: list[tuple[int, int, int, int]] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < _FEWEST_CALLS:
        begin = clock()
        encoded = variant.encode(row)
        sent = clock()
        answer = variant.trip(encoded)
        received = clock()
        variant.decode(answer)
        over = clock()
        taken.append((sent - begin, received - sent, over - received, over - begin))
    *stages, whole = (statistics.median(part) / 1e3 for part in zip(*taken, strict=True))
    return Cost(dict(zip(STAGES, stages, strict=True)), whole)


def section(case: Case, variants: dict[str, Variant], effort: Effort) -> Section:
    """Makes a row for each variant."""
    row = case.row()
    table = Section(
        f"{case.name}: one request at a time, microseconds",
        ["variant", *STAGES, WHOLE, "more than in process"],
    )
    _check(variants, row)
    for variant in variants.values():
        cost(variant, row, effort.seconds / 4)
    calls = {
        name: functools.partial(cost, variant, row, effort.seconds / 2) for name, variant in variants.items()
    }
    measured = interleave(calls, effort.rounds)
    _check(variants, row)
    least = [each.whole for each in measured[IN_PROCESS]]
    for name, costs in measured.items():
        parts = {stage: [each.stages[stage] for each in costs] for stage in STAGES}
        parts[WHOLE] = [each.whole for each in costs]
        more = differences(parts[WHOLE], least)
        table.raw |= {f"{name}, {part}, us": values for part, values in parts.items()}
        table.raw[f"{name}, more than in process, us"] = more
        cells = [spread(values) for values in parts.values()]
        table.rows.append([name, *cells, "" if name == IN_PROCESS else spread(more)])
    return table


def _check(variants: dict[str, Variant], row: Array) -> None:
    """Checks that all answers are equal to the bit: the models do nothing that rounds."""
    expected = _answer(variants[IN_PROCESS], row)
    for name, variant in variants.items():
        result = _answer(variant, row)
        if result.shape != expected.shape or (result != expected).any():
            raise SystemExit(f"{name}: its answer is not the model's")


def _answer(variant: Variant, row: Array) -> Array:
    variant.begin()
    return variant.decode(variant.trip(variant.encode(row)))


def sections(effort: Effort, say: Callable[[str], None]) -> dict[str, Section]:
    """Measures all cases, on the same engine and servers."""
    with opened() as variants:
        # The server does the same: a full collection of the objects of Paddle's import takes 0.1 s.
        gc.collect()
        gc.freeze()
        made = {}
        for case in CASES:
            say(case.name)
            made[case.name] = section(case, {name: make(case) for name, make in variants.items()}, effort)
        return made


def main() -> None:
    """Measures and prints JSON, in a process of its own: it loads Paddle."""
    stream = harness.answers()
    made = sections(Effort.of("--quick" in sys.argv), lambda line: print(line, file=sys.stderr))
    json.dump({name: asdict(each) for name, each in made.items()}, stream)
    stream.close()


if __name__ == "__main__":
    main()
