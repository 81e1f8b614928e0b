"""Measures what each way to a model costs a caller with one request at a time: in process, over sockets.

``python -m benchmarks.bench_transport [--quick] [--json FILE] [--png FILE]``; the picture needs matplotlib.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Effort
from benchmarks.transport.picture import draw


def main() -> None:
    """Measures in a process of its own, prints, and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_transport", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a short and noisy run, to see that everything works"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the medians here")
    options = parser.parse_args()
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    answer = harness.child("transport.rounds", *(["--quick"] if options.quick else []))
    sections = {name: harness.section_of(section) for name, section in answer.items()}
    for section in sections.values():
        harness.show(section)
    if options.json:
        harness.write_json(options.json, sections, asdict(Effort.of(options.quick)))
    if options.png:
        draw(options.png, sections, "One request at a time, of a model that does next to nothing")


if __name__ == "__main__":
    main()
