"""Measures the engine against the figures it has to reach, and every other variant on every model.

``python -m benchmarks.bench_engine [--quick] [--json FILE] [--only NAME ...]``
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from benchmarks import harness
from benchmarks.callers.rounds import PLANS
from benchmarks.models import MODELS, directory

NAMES = ["gil", "scaling", "latency", "load", "ainfer", *MODELS, *(f"callers-{name}" for name in PLANS)]


def main() -> None:
    """Measures each section in a process of its own, prints it, and writes them all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_engine", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a short and noisy run, to see that everything works"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES)
    )
    options = parser.parse_args()
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    for model in MODELS:
        directory(model)
    sections = {}
    for name in options.only:
        arguments = [name, "--quick"] if options.quick else [name]
        sections[name] = harness.section_of(harness.child("callers.report", *arguments))
        harness.show(sections[name])
    if options.json:
        harness.write_json(options.json, sections, asdict(harness.Effort.of(options.quick)))


if __name__ == "__main__":
    main()
