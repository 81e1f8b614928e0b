"""Makes PaddleOCR's pipeline with the real models, and compares what two of them read."""

from __future__ import annotations

from typing import Any

import numpy as np
from ocr_pages import page_of
from real_models import V5_DET, need

from paddleinfer.demo.ocr_pipeline import ocr_pipeline, stock_pipeline

Array = np.ndarray[Any, Any]


def make(engine: str, **options: Any) -> Any:
    """A PaddleOCR without orientation and unwarping."""
    return ocr_pipeline(engine, need(V5_DET).parent, **options)


def stock() -> Any:
    """On Paddle's predictors, with one computing thread each, as engines have.

    With the ten of PaddleOCR's default the last bits of scores depend on the processor and its cores.
    """
    return stock_pipeline(need(V5_DET).parent, cpu_threads=1)


def drawn(count: int) -> list[Array]:
    """Small pages of several widths."""
    pages = [page_of(seed, width=256 + 32 * (seed % 3), lines=2 + seed % 3) for seed in range(count)]
    return [np.ascontiguousarray(np.asarray(page)[:, :, ::-1]) for page in pages]


def read(pipeline: Any, page: Array) -> tuple[list[str], list[float], list[list[int]]]:
    """Texts, scores and boxes of a page."""
    (result,) = pipeline.predict(page)
    return result["rec_texts"], [float(score) for score in result["rec_scores"]], result["rec_boxes"].tolist()
