"""Makes PaddleOCR's pipeline with the real models, and compares what two of them read."""

from __future__ import annotations

from typing import Any

import numpy as np
from ocr_pages import page_of
from real_models import V5_DET, V5_REC, need

Array = np.ndarray[Any, Any]


def make(engine: str, det: dict[str, Any] | None = None, **options: Any) -> Any:
    """A PaddleOCR without orientation and unwarping; `det` is the detector's own ``engine_config``."""
    from paddleocr import PaddleOCR
    from paddlex.inference import load_pipeline_config

    config = load_pipeline_config("OCR")
    if det is not None:
        config["SubModules"]["TextDetection"]["engine_config"] = det
    return PaddleOCR(
        paddlex_config=config,
        engine=engine,
        text_detection_model_name=V5_DET,
        text_detection_model_dir=str(need(V5_DET)),
        text_recognition_model_name=V5_REC,
        text_recognition_model_dir=str(need(V5_REC)),
        use_doc_orientation_classify=False,
        use_doc_unwarping=False,
        use_textline_orientation=False,
        **options,
    )


def stock() -> Any:
    """On Paddle's predictors; Paddle 3.3 cannot run the detector with oneDNN."""
    return make("paddle_static", det={"run_mode": "paddle"})


def drawn(count: int) -> list[Array]:
    """Small pages of several widths."""
    pages = [page_of(seed, width=256 + 32 * (seed % 3), lines=2 + seed % 3) for seed in range(count)]
    return [np.ascontiguousarray(np.asarray(page)[:, :, ::-1]) for page in pages]


def read(pipeline: Any, page: Array) -> tuple[list[str], list[float], list[list[int]]]:
    """Texts, scores and boxes of a page."""
    (result,) = pipeline.predict(page)
    return result["rec_texts"], [float(score) for score in result["rec_scores"]], result["rec_boxes"].tolist()
