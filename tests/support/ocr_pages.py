"""Pages of text that are drawn, for readers of pages, and the plain pipeline that reads them."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from real_models import ROOT, V5_DET, V5_REC, Plain, need
from real_pictures import words

from paddleinfer.ocr.characters import characters_of
from paddleinfer.ocr.detection import boxes_of, det_input
from paddleinfer.ocr.lines import cut_line, read_line, rec_input

DICTIONARY = ROOT / "ppocr_keys_v1.txt"


def page_of(seed: int, *, width: int = 256, lines: int = 3, turned: float = 0) -> Any:
    """A white page with lines of words on it."""
    page = Image.new("RGB", (width, 16 + 44 * lines), "white")
    drawn, font = ImageDraw.Draw(page), ImageFont.load_default(24)
    for number in range(lines):
        drawn.text((12, 12 + 44 * number), words(10 * seed + number, 2), "black", font)
    return page.rotate(turned, Image.Resampling.BICUBIC, expand=True, fillcolor="white")


def encoded(page: Any, kind: str = "PNG") -> bytes:
    """The page as a file."""
    file = io.BytesIO()
    page.save(file, kind)
    return file.getvalue()


class PlainReader:
    """The same functions over two bare predictors of Paddle, one line after the other."""

    def __init__(self, det: str, rec: str) -> None:
        self._det = Plain(det, onednn=det != V5_DET, ir_optim=det == V5_DET)
        self._rec = Plain(rec, ir_optim=rec == V5_REC)
        self._characters = characters_of(need(rec), DICTIONARY)

    def __call__(self, page: Any) -> list[str]:
        """The texts of a page."""
        boxes = boxes_of(self._det(det_input(page))[0, 0], page.size)
        lines = (self._rec(rec_input(cut_line(page, box)))[0] for box in boxes)
        return [text for text, score in (read_line(line, self._characters) for line in lines) if score >= 0.5]
