"""Measures what hostile model files cost until they are refused.

Each is inspected by a process of its own: its processor seconds, and its memory over the file's bytes.

``python -m benchmarks.bench_model_files [--mib N] [--only WORD ...] [--json FILE]``
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Section
from tests.support.hostile_files import NAMES, write

MOST_SECONDS = 1.0
MOST_TIMES = 10.0
SMALL_BYTES = 1 << 20
"""The memory of smaller files drowns in the interpreter's noise."""

LOOK = """
import json, sys, time
from paddleinfer.errors import ModelLoadError
from paddleinfer.models.reader import load_spec

def peak_bytes():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024

before, began = peak_bytes(), time.process_time()
try:
    load_spec(sys.argv[1])
    said = "it was accepted"
except ModelLoadError as error:
    said = ""
print(json.dumps([time.process_time() - began, peak_bytes() - before, said]))
"""


def main() -> None:
    """Inspects all of them, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=20, help="size of the files")
    parser.add_argument(
        "--only", nargs="+", default=[], help="only files whose names have one of these words"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    section = Section(
        f"hostile files of {options.mib} MiB", ["file", "bytes", "CPU s", "memory / bytes", "refused"]
    )
    for name in NAMES:
        if options.only and not any(word in name for word in options.only):
            continue
        seconds, times = look(section, name, options.mib << 20)
        section.verdict(f"{name}: CPU seconds", seconds, at_most=MOST_SECONDS)
        section.verdict(f"{name}: memory over its bytes", times, at_most=MOST_TIMES)
    harness.show(section)
    if options.json:
        harness.write_json(options.json, {"model_files": section}, {"mib": options.mib})


def look(section: Section, name: str, size: int) -> tuple[float, float]:
    """Returns a row, the CPU seconds, and the memory over bytes."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "model"
        file_bytes = write(name, directory, size)
        done = subprocess.run(
            [sys.executable, "-c", LOOK, str(directory)], capture_output=True, text=True, check=True
        )
    seconds, peak_bytes, said = json.loads(done.stdout)
    times = peak_bytes / max(file_bytes, SMALL_BYTES)
    section.rows.append([name, f"{file_bytes:,}", f"{seconds:.2f}", f"{times:.1f}", said or "yes"])
    section.raw[name] = [seconds, peak_bytes, file_bytes]
    return seconds, times


if __name__ == "__main__":
    main()
