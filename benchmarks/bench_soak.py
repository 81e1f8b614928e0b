"""Soaks PaddleOCR or RapidOCR on engines: threads read pages of all sizes, and the memory is watched.

``python -m benchmarks.bench_soak [--minutes N] [--threads N] [--reader NAME] [--backend NAME]
[--json FILE]``, in the environment of ``make test-paddlex`` or ``make test-rapidocr``.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks import harness
from benchmarks.harness import Section
from benchmarks.paddleocr.soaked import READERS, Read
from paddleinfer.demo.text_pages import drawn_pages

_WINDOWS = 8
_SIZES = (320, 1280)
"""Of a page's sides, in pixels."""


@dataclass
class Soak:
    """Reads until the end, and notes when each page was done and what was resident every second."""

    end: float
    pages: list[float] = field(default_factory=list)
    empty: int = 0
    failures: list[str] = field(default_factory=list)
    resident: list[tuple[float, int]] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count)

    def read(self, make: Callable[[], Read]) -> None:
        """One thread's pages; no two of all threads are equal."""
        read = make()
        while time.monotonic() < self.end:
            (page,) = drawn_pages(1, seed=next(self._numbers), widths=_SIZES, heights=_SIZES)
            try:
                lines = read(page)
            except Exception as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                continue
            self.empty += not lines
            self.pages.append(time.monotonic())

    def watch(self) -> None:
        """Samples the memory until the end."""
        process = psutil.Process()
        while time.monotonic() < self.end:
            self.resident.append((time.monotonic(), process.memory_info().rss))
            time.sleep(1.0)


def section(title: str, soak: Soak, begin: float) -> Section:
    """Makes a row of each window of time; the second one is what the last is compared with."""
    table = Section(title, ["minutes", "pages", "resident MB, median", "largest"])
    span = (soak.end - begin) / _WINDOWS
    medians = []
    for window in range(_WINDOWS):
        first, last = begin + window * span, begin + (window + 1) * span
        megabytes = [bytes_ / 2**20 for at, bytes_ in soak.resident if first <= at < last]
        pages = sum(first <= at < last for at in soak.pages)
        medians.append(statistics.median(megabytes))
        table.rows.append(
            [
                f"{window * span / 60:.1f} to {(window + 1) * span / 60:.1f}",
                *(str(pages), f"{medians[-1]:,.0f}", f"{max(megabytes):,.0f}"),
            ]
        )
    table.raw = {"resident MB": [bytes_ / 2**20 for _, bytes_ in soak.resident], "medians": medians}
    table.verdict("memory of the last eighth, of the second", medians[-1] / medians[1], at_most=1.1)
    table.verdict("pages that failed, or had no line", len(soak.failures) + soak.empty, at_most=0)
    return table


def main() -> None:
    """Soaks, prints, and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the threads read")
    parser.add_argument("--threads", type=int, default=8, help="how many read")
    parser.add_argument("--reader", choices=READERS, default="paddleocr", help="what they read with")
    parser.add_argument("--backend", default="paddle", help="what the models run in")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    options = parser.parse_args()
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    make = READERS[options.reader]({"backend": options.backend})
    begin = time.monotonic()
    soak = Soak(begin + 60 * options.minutes)
    threads = [threading.Thread(target=soak.read, args=(make,)) for _ in range(options.threads)]
    for thread in threads:
        thread.start()
    soak.watch()
    for thread in threads:
        thread.join()
    title = f"{options.reader} on {options.backend}, {options.threads} threads, {len(soak.pages)} pages"
    measured = section(title, soak, begin)
    harness.show(measured)
    for failure in soak.failures[:5]:
        print(failure)
    if options.json:
        harness.write_json(options.json, {"soak": measured}, {"minutes": options.minutes})


if __name__ == "__main__":
    main()
