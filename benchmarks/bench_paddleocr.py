"""Measures PaddleOCR's pipeline on its own engines, and on ours: pages per second, memory, equal texts.

``python -m benchmarks.bench_paddleocr [--quick] [--rounds N] [--pages N] [--only PART ...]
[--parts pages|equal|server ...] [--json FILE]``, in the environment of ``make test-paddlex``. Every variant
reads the same drawn pages in a process of its own. Then 200 pages are read once from up to 16 threads, to be
compared, and PaddleX's server answers clients, as it comes and on engines.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import Helper, Section, interleave, ratios, spread
from benchmarks.paddleocr import served

_COMPARED = ("texts", "boxes", "scores")
_PARTS = ("pages", "equal", "server")
_SERVER_S, _SERVER_S_QUICK = 60.0, 10.0


@dataclass(frozen=True)
class Variant:
    """How pages are read."""

    way: str
    """A key of ``benchmarks.paddleocr.pipelines.WAYS``."""
    threads: int = 1
    pipelines: int = 1
    processes: int = 1


STOCK = "stock, oneDNN for rec alone"
VARIANTS = {
    STOCK: Variant("tuned"),
    "stock, det with oneDNN less a pass": Variant("without_pass"),
    "stock, enable_mkldnn=False": Variant("mkldnn_off"),
    "stock, 4 threads, a pipeline each": Variant("tuned", threads=4, pipelines=4),
    "stock, 2 processes": Variant("tuned", processes=2),
    "stock, engine=onnxruntime": Variant("onnxruntime"),
    "ours, 1 thread": Variant("ours"),
    "ours, 4 threads": Variant("ours", threads=4),
    "ours, openvino, 1 thread": Variant("ours_openvino"),
    "ours, openvino, 4 threads": Variant("ours_openvino", threads=4),
    "ours, det openvino, rec onnxruntime, 4 threads": Variant("ours_openvino_det", threads=4),
    "ours, onnxruntime, 1 thread": Variant("ours_onnxruntime"),
    "ours, onnxruntime, 4 threads": Variant("ours_onnxruntime", threads=4),
    "ours, own widths, 1 thread": Variant("ours_own_widths"),
    "ours, own widths, 4 threads": Variant("ours_own_widths", threads=4),
    "ours, openvino, own widths, 4 threads": Variant("ours_openvino_own_widths", threads=4),
    "ours, onnxruntime, own widths, 4 threads": Variant("ours_onnxruntime_own_widths", threads=4),
}

# With the ten threads of its own default PaddleOCR's scores depend on the number of cores.
COMPARED = {
    "stock, one computing thread": Variant("tuned_on_one_thread"),
    STOCK: VARIANTS[STOCK],
    **{f"ours, {threads} threads": Variant("ours", threads=threads) for threads in (1, 4, 16)},
    **{
        f"ours, {threads} threads, a pipeline each": Variant("ours", threads=threads, pipelines=threads)
        for threads in (4, 16)
    },
    "ours, openvino, 16 threads": Variant("ours_openvino", threads=16),
}
_PAGES_COMPARED, _PAGES_COMPARED_QUICK = 200, 16


class Readers:
    """The processes of all variants; those that differ in threads only share one."""

    def __init__(self, variants: dict[str, Variant]) -> None:
        self._helpers: dict[tuple[str, int, int], Helper] = {}
        for variant in variants.values():
            for number in range(variant.processes):
                key = (variant.way, variant.pipelines, number)
                if key not in self._helpers:
                    self._helpers[key] = Helper("paddleocr.reader", variant.way, str(variant.pipelines))
        for helper in self._helpers.values():
            helper.answer()

    def read(self, variant: Variant, pages: int) -> list[dict[str, Any]]:
        """Reads the pages, with an equal share for each process."""
        share = pages // variant.processes
        helpers = [
            self._helpers[variant.way, variant.pipelines, number] for number in range(variant.processes)
        ]
        for number, helper in enumerate(helpers):
            helper.tell({"pages": [number * share, share], "threads": variant.threads})
        return [helper.answer() for helper in helpers]

    def close(self) -> None:
        """Ends the processes."""
        for helper in self._helpers.values():
            helper.close()


def section(variants: dict[str, Variant], rounds: int, pages: int) -> Section:
    """Measures the variants in turn; the first one's results are what the others are compared with."""
    with contextlib.closing(Readers(variants)) as readers:
        measured = interleave(
            {name: functools.partial(readers.read, variant, pages) for name, variant in variants.items()},
            rounds,
        )
    rates = {
        name: [pages / max(answer["seconds"] for answer in answers) for answers in runs]
        for name, runs in measured.items()
    }
    first = next(iter(variants))
    expected = {kind: _of_pages(measured[first][0], kind) for kind in _COMPARED}
    table = Section(
        f"PaddleOCR, PP-OCRv5 mobile, {pages} drawn pages: pages per second",
        [
            *("variant", "pages/s", f"of {first}", "processor s a page", "resident MB"),
            "pages with equal texts, boxes, scores",
        ],
    )
    for name, runs in measured.items():
        shares = ratios(rates[name], rates[first])
        resident = statistics.median(sum(answer["resident_bytes"] for answer in run) for run in runs) / 2**20
        cpu = [sum(answer["cpu_seconds"] for answer in run) / pages for run in runs]
        equal = [
            sum(a == b for a, b in zip(_of_pages(runs[-1], kind), expected[kind], strict=True))
            for kind in _COMPARED
        ]
        table.raw |= {
            **{f"{name}, pages/s": rates[name], f"{name}, processor s": cpu},
            **{f"{name}, MB": [resident], f"{name}, equal": equal},
        }
        table.rows.append(
            [
                *(name, spread(rates[name]), spread(shares), spread(cpu), f"{resident:,.0f}"),
                ", ".join(map(str, equal)),
            ]
        )
    return table


def _named(variants: dict[str, Variant], parts: list[str]) -> dict[str, Variant]:
    return {name: variant for name, variant in variants.items() if any(part in name for part in parts)}


def _of_pages(run: list[dict[str, Any]], kind: str) -> list[Any]:
    return [page for answer in run for page in answer[kind]]


def main() -> None:
    """Measures, prints, and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short and noisy: to see that all of it runs")
    parser.add_argument("--rounds", type=int, help="how often each variant is measured")
    parser.add_argument("--pages", type=int, help="an even number of pages for each")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of the variants' names")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS, help="what is measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    options = parser.parse_args()
    rounds = options.rounds or (1 if options.quick else 3)
    pages = options.pages or (4 if options.quick else 24)
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    sections = {}
    if "pages" in options.parts:
        sections["paddleocr"] = section(_named(VARIANTS, options.only), rounds, pages)
        harness.show(sections["paddleocr"])
    if "equal" in options.parts:
        compared = _PAGES_COMPARED_QUICK if options.quick else _PAGES_COMPARED
        sections["equal"] = section(_named(COMPARED, options.only), 1, options.pages or compared)
        harness.show(sections["equal"])
    if "server" in options.parts:
        sections["server"] = served.section(rounds, _SERVER_S_QUICK if options.quick else _SERVER_S)
        harness.show(sections["server"])
    if options.json:
        harness.write_json(options.json, sections, {"rounds": rounds, "pages": pages})


if __name__ == "__main__":
    main()
