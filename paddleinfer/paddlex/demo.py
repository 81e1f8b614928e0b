"""Reads drawn pages with PaddleOCR: as it comes on one thread, and on engines from many.

``python -m paddleinfer.paddlex.demo --models DIR``; ``make demo-ocr`` fetches the models and runs it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont

from paddleinfer.backends.processors import resident_memory_bytes
from paddleinfer.demo.ocr_pipeline import ocr_pipeline, stock_pipeline
from paddleinfer.demo.text_pages import drawn_pages
from paddleinfer.paddlex.model_options import ENGINE_NAME
from paddleinfer.paddlex.shared import shared

__all__ = ["main"]

STOCK: Final = "stock"
OURS: Final = "engines"


def main() -> int:
    """Runs the demo; 1 where a text differs."""
    options = _options()
    if options.reader:
        _read(options.reader, options)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    stock, ours = (_in_a_process(reader, options) for reader in (STOCK, OURS))
    for name, threads, result in ((STOCK, 1, stock), (OURS, options.threads, ours)):
        rate = options.pages / result["seconds"]
        memory = f"{result['resident_bytes'] >> 20:,} MB"
        print(f"{name:8} from {threads} thread{'s' * (threads > 1)}: {rate:.2f} pages per second, {memory}")
    equal = sum(a["texts"] == b["texts"] for a, b in zip(stock["pages"], ours["pages"], strict=True))
    lines = sum(len(page["texts"]) for page in ours["pages"])
    print(f"the texts of {equal} of {options.pages} pages are equal ({lines} lines)")
    picture = options.out / "ocr-page.png"
    _draw(drawn_pages(1)[0], ours["pages"][0], picture)
    print(f"{picture} shows a page with its boxes and texts")
    return 0 if equal == options.pages else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="the folder with PP-OCRv5's mobile models")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="where the picture goes")
    parser.add_argument("--pages", type=int, default=40, help="how many pages are drawn")
    parser.add_argument("--threads", type=int, default=8, help="how many threads call the engines")
    parser.add_argument("--reader", choices=(STOCK, OURS), help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process(reader: str, options: argparse.Namespace) -> dict[str, Any]:
    """Each reader has a process of its own, so that its memory is told apart."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        arguments = {
            "--reader": reader,
            "--result": file,
            **{f"--{name}": getattr(options, name) for name in ("models", "pages", "threads")},
        }
        words = [str(word) for pair in arguments.items() for word in pair]
        subprocess.run([sys.executable, "-m", "paddleinfer.paddlex.demo", *words], check=True)
        result: dict[str, Any] = json.loads(file.read_text())
        return result


def _read(reader: str, options: argparse.Namespace) -> None:
    pages = drawn_pages(options.pages)
    if reader == STOCK:
        pipeline, threads = stock_pipeline(options.models), 1
    else:
        pipeline, threads = shared(ocr_pipeline(ENGINE_NAME, options.models)), options.threads
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(pipeline.predict, pages[:threads]))  # the first call of each thread takes longer
        begin = time.perf_counter()
        results = list(pool.map(pipeline.predict, pages))
        seconds = time.perf_counter() - begin
    read = [{"texts": page["rec_texts"], "boxes": page["rec_boxes"].tolist()} for (page,) in results]
    resident = resident_memory_bytes()
    options.result.write_text(json.dumps({"seconds": seconds, "resident_bytes": resident, "pages": read}))


def _draw(page: Any, result: dict[str, Any], file: Path) -> None:
    """Draws the page with its boxes, and the texts beside it where they were found."""
    height, width, _ = page.shape
    picture = Image.new("RGB", (2 * width, height), "white")
    picture.paste(Image.fromarray(page[:, :, ::-1]))
    pen = ImageDraw.Draw(picture)
    for text, (left, top, right, bottom) in zip(result["texts"], result["boxes"], strict=True):
        pen.rectangle((left, top, right, bottom), outline="red", width=2)
        font = ImageFont.load_default(max(10, (bottom - top) * 3 // 5))
        pen.text((width + left, top), text, "navy", font)
    picture.save(file)


if __name__ == "__main__":
    sys.exit(main())
