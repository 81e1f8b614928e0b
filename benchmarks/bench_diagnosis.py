"""Measures whether advice gains what it predicts: loads are diagnosed, advice is followed, both are compared.

``python -m benchmarks.bench_diagnosis [--quick] [--only CASE ...] [--json FILE]``
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from benchmarks import harness
from benchmarks.diagnosis.cases import CASES
from benchmarks.harness import Effort


def main() -> None:
    """Measures each case in a process of its own, prints, and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_diagnosis", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a short and noisy run, to see that everything works"
    )
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    options = parser.parse_args()
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    quick = ["--quick"] if options.quick else []
    sections = {}
    for name in options.only:
        sections[name] = harness.section_of(harness.child("diagnosis.rounds", name, *quick))
        harness.show(sections[name])
    if options.json:
        harness.write_json(options.json, sections, asdict(Effort.of(options.quick)))


if __name__ == "__main__":
    main()
