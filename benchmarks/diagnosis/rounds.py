"""Runs one case of bench_diagnosis: it diagnoses, follows the advice and diagnoses again, in every round."""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from dataclasses import asdict

from benchmarks import harness
from benchmarks.diagnosis.cases import CASES, Case
from benchmarks.harness import Effort, Section, ratios

WITHIN = 0.3
_SECONDS = 2.0


def rounds(case: Case, effort: Effort) -> Section:
    """Makes a row for each figure; only rounds whose advice had a number can be compared."""
    section = Section(f"{case.name}: should be {case.verdict}", ["what", "figure", "unit"])
    verdicts: Counter[str] = Counter()
    followed: Counter[str] = Counter()
    raw: dict[str, list[float]] = {}
    figure = ""
    for _ in range(effort.rounds):
        before = case.load({}, effort.seconds * _SECONDS)
        verdicts[before.diagnosis["verdict"]] += 1
        advice = next(one for one in before.diagnosis["advice"] if case.figure in (None, one["figure"]))
        followed[advice["action"]] += 1
        if advice["predicted"] is None:
            continue
        figure = advice["figure"]
        after = case.load(advice["change"], effort.seconds * _SECONDS)
        values = {
            "before": advice["now"],
            "predicted": advice["predicted"],
            "after": after.diagnosis["figures"][figure],
            "predicted gain": advice["gain"],
            "gain": _gain(figure, advice["now"], after.diagnosis["figures"][figure]),
            "gain seen by callers": _gain(figure, before.outside, after.outside),
        }
        for name, value in values.items():
            raw.setdefault(name, []).append(value)
    section.rows += [["verdict", _counted(verdicts), ""], ["advice followed", _counted(followed), ""]]
    for name, values_of in raw.items():
        # Callers cannot see the time in the queue.
        if name != "gain seen by callers" or figure != "queue_us":
            section.measured(name, values_of, "times" if "gain" in name else figure)
    if raw:
        shares = ratios(raw["gain"], raw["predicted gain"])
        section.measured("gain / predicted", shares, "")
        near = sum(1 - WITHIN <= share <= 1 + WITHIN for share in shares)
        section.rows.append([f"rounds within {WITHIN:.0%}", f"{near} of {len(shares)}", ""])
        median = statistics.median(shares)
        section.verdict(f"{case.name}: gain / predicted", median, at_least=1 - WITHIN)
        section.verdict(f"{case.name}: gain / predicted", median, at_most=1 + WITHIN)
    right = verdicts[case.verdict] / effort.rounds
    section.verdict(f"{case.name}: rounds that are {case.verdict}", right, at_least=1.0)
    return section


def _gain(figure: str, before: float, after: float) -> float:
    """Returns the gain: a time gains by falling, a rate by rising."""
    return before / after if figure.endswith("_us") else after / before


def _counted(names: Counter[str]) -> str:
    return "; ".join(f"{name} ({count})" for name, count in names.most_common())


def main() -> None:
    """Measures and prints JSON, in a process of its own: it loads Paddle."""
    stream = harness.answers()
    json.dump(asdict(rounds(CASES[sys.argv[1]], Effort.of("--quick" in sys.argv))), stream)
    stream.close()


if __name__ == "__main__":
    main()
