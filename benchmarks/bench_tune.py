"""Measures the tuner: what its options are worth, how long it takes, and whether two searches agree.

Each model is tuned twice. Then ``paddleinfer bench`` measures the defaults and what each search found, in
processes of their own that take turns, under the load that was tuned for.

``python -m benchmarks.bench_tune [--quick] [--only MODEL ...] [--json FILE]``
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import Section, interleave, ratios, spread
from benchmarks.models import MODELS, directory
from paddleinfer import TuningReport, tune
from paddleinfer.cli.arrays import write_outputs

# Requests are answered one by one where a model is small, and by callers who share batches where it is not.
CALLERS = {"mlp": 1}
USUAL_CALLERS = 8
ROUNDS, QUICK_ROUNDS = 5, 3
SECONDS, QUICK_SECONDS = 90.0, 20.0
WINDOW_S = 2.0
ROWS_IN_TURN = 4

DEFAULTS, FIRST, SECOND = "defaults", "first search", "second search"
LONGEST_S = 120.0
# Of the rate of the defaults, what is not slower; two searches agree within as much.
LEVEL = 0.97
MLP_GAIN = 1.5


def rate(name: str, inputs: Path, tuning_file: str) -> float:
    """Returns rows a second of one process that serves callers, by ``paddleinfer bench``."""
    command = [sys.executable, "-m", "paddleinfer", "bench", str(directory(name)), "--json"]
    load = ["--callers", str(CALLERS.get(name, USUAL_CALLERS)), "--seconds", str(WINDOW_S)]
    given = ["--input", str(inputs), "--tuning-file", tuning_file]
    done = subprocess.run(
        [*command, *load, *given], check=True, stdout=subprocess.PIPE, cwd=harness.REPOSITORY
    )
    return float(json.loads(done.stdout)["rows_per_s"])


def measure(name: str, seconds: float, rounds: int) -> Section:
    """Tunes one model twice, and compares both results with the defaults."""
    feed = MODELS[name].feed(ROWS_IN_TURN)
    callers = CALLERS.get(name, USUAL_CALLERS)
    section = Section(
        f"{name}, {callers} callers, one row each: rows per second, of {rounds} windows of {WINDOW_S:g} s",
        ["setting", "chosen", "the search says", "rows/s", "of the defaults", "search took s"],
    )
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        write_outputs(inputs, feed)
        found: dict[str, TuningReport] = {}
        for search in (FIRST, SECOND):
            found[search] = tune(
                directory(name),
                feed,
                callers=callers,
                seconds=seconds,
                out=Path(folder) / f"{search}.toml",
                example_shapes={"x": MODELS[name].fed},
            )
        files = {DEFAULTS: "none", **{search: str(report.file) for search, report in found.items()}}
        rates = interleave(
            {one: functools.partial(rate, name, inputs, file) for one, file in files.items()}, rounds
        )
    section.raw.update(rates)
    for one, values in rates.items():
        section.rows.append(_row(one, values, rates[DEFAULTS], found.get(one)))
    of_defaults = [statistics.median(ratios(rates[search], rates[DEFAULTS])) for search in found]
    section.verdict("a tuned engine, of the defaults", min(of_defaults), at_least=LEVEL)
    same = str(found[FIRST].setting) == str(found[SECOND].setting)
    apart = 1.0 if same else statistics.median(ratios(rates[FIRST], rates[SECOND]))
    section.verdict("two searches, the worse of the better", min(apart, 1 / apart), at_least=LEVEL)
    section.verdict("the longer search, s", max(one.seconds for one in found.values()), at_most=LONGEST_S)
    if name == "mlp":
        section.verdict("the MLP at one row, of the defaults", min(of_defaults), at_least=MLP_GAIN)
    return section


def _row(one: str, values: list[float], defaults: list[float], report: TuningReport | None) -> list[str]:
    if report is None:
        return [one, "", "", spread(values), "", ""]
    return [
        one,
        str(report.setting),
        f"{report.gain:.2f}",
        spread(values),
        spread(ratios(values, defaults)),
        f"{report.seconds:.0f}",
    ]


def options_of() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short and noisy: to see that all of it runs")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    return parser.parse_args()


def main() -> None:
    """Measures, prints and writes; the module describes it."""
    options = options_of()
    seconds = QUICK_SECONDS if options.quick else SECONDS
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    sections: dict[str, Section] = {}
    for name in options.only:
        sections[name] = measure(name, seconds, rounds)
        harness.show(sections[name])
    if options.json:
        effort: dict[str, Any] = {"rounds": rounds, "search_s": seconds, "window_s": WINDOW_S}
        harness.write_json(options.json, sections, effort)


if __name__ == "__main__":
    main()
