"""Measures pages that the OCR service reads, against the same functions over two bare predictors.

``python -m benchmarks.bench_pages [--quick] [--json FILE]``
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import random
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from benchmarks import harness
from benchmarks.baselines import Bare
from benchmarks.harness import Callers, Effort, Section, interleave, ratios, spread
from benchmarks.models import SEED, directory
from paddleinfer import Engine
from paddleinfer.ocr import Ocr
from paddleinfer.ocr.characters import characters_of
from paddleinfer.ocr.detection import boxes_of, det_input
from paddleinfer.ocr.lines import cut_line, read_line, rec_input

BARE = "two bare predictors, one page after the other"
ALONE = "Ocr, one caller"
CALLERS = 8
MANY = f"Ocr, {CALLERS} callers"

PAGES, LINES = 8, 12
_WORDS = ("amount", "balance", "carried", "date", "due", "from", "goods", "invoice", "number", "total")
# A page takes a third of a second.
_SLOWNESS = 4.0


def pages() -> list[bytes]:
    """Draws pages of 800 x 600 with a seed, as PNG."""
    drawn = random.Random(SEED)
    files = []
    for _ in range(PAGES):
        page = Image.new("RGB", (800, 600), "white")
        for line in range(LINES):
            text = " ".join(drawn.choice(_WORDS) for _ in range(4))
            ImageDraw.Draw(page).text((30, 20 + 46 * line), text, "black", ImageFont.load_default(26))
        file = io.BytesIO()
        page.save(file, "PNG")
        files.append(file.getvalue())
    return files


def read_plainly(det: Bare, rec: Bare, characters: list[str], file: bytes) -> list[str]:
    """Reads a page with the service's functions, one line after the other."""
    page = Image.open(io.BytesIO(file)).convert("RGB")
    (scores,) = det({"x": det_input(page)}).values()
    texts = []
    for box in boxes_of(scores[0, 0], page.size):
        (steps,) = rec({"x": rec_input(cut_line(page, box))}).values()
        texts.append(read_line(steps[0], characters)[0])
    return texts


def section(effort: Effort) -> Section:
    """Measures all variants; it ends where a text differs."""
    models = {"det": directory("ppocr_det"), "rec": directory("ppocr_rec")}
    characters, files = characters_of(models["rec"]), pages()
    bare_det, bare_rec = Bare(models["det"], as_engine=True), Bare(models["rec"], as_engine=True)
    expected = {file: read_plainly(bare_det, bare_rec, characters, file) for file in files}
    with contextlib.ExitStack() as stack:
        engines = {name: stack.enter_context(Engine(path)) for name, path in models.items()}
        ocr = stack.enter_context(Ocr(engines))

        def reading(read: Callable[[bytes], list[str]]) -> Callable[[], None]:
            turn = itertools.cycle(files)

            def one() -> None:
                file = next(turn)
                if read(file) != expected[file]:
                    raise SystemExit("a text differs from plain Paddle's: the comparison means nothing")

            return one

        def by_service(file: bytes) -> list[str]:
            texts: list[str] = ocr.call(file)["txts"]
            return texts

        ways: dict[str, list[Callable[[], Any]]] = {
            BARE: [reading(lambda file: read_plainly(bare_det, bare_rec, characters, file))],
            ALONE: [reading(by_service)],
            MANY: [reading(by_service) for _ in range(CALLERS)],
        }
        callers = {name: Callers(calls, warm_up=2) for name, calls in ways.items()}
        for each in callers.values():
            stack.callback(each.close)
        seconds = effort.seconds * _SLOWNESS
        rates = interleave(
            {name: functools.partial(each.rate, seconds) for name, each in callers.items()}, effort.rounds
        )
    table = Section(
        f"pages of {LINES} lines, PP-OCRv5: pages per second, equal texts",
        ["variant", "pages/s", "of the bare predictors"],
    )
    for name, measured in rates.items():
        shares = ratios(measured, rates[BARE])
        table.raw |= {f"{name}, pages/s": measured, f"{name}, of the bare": shares}
        table.rows.append([name, spread(measured), spread(shares) if name != BARE else ""])
    return table


def main() -> None:
    """Measures, prints, and writes."""
    options = harness.options_of(__doc__)
    effort = Effort.of(options.quick)
    for fact, value in harness.facts().items():
        print(f"{fact}: {value}")
    measured = section(effort)
    harness.show(measured)
    if options.json:
        harness.write_json(options.json, {"pages": measured}, asdict(effort))


if __name__ == "__main__":
    main()
