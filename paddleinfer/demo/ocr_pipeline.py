"""Makes PaddleOCR's pipeline with PP-OCRv5's mobile models, from a folder of models and without network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["DET", "REC", "ocr_pipeline", "stock_pipeline"]

DET: Final = "PP-OCRv5_mobile_det"
REC: Final = "PP-OCRv5_mobile_rec"


def ocr_pipeline(
    engine: str, models: Path, det_config: Mapping[str, Any] | None = None, **options: Any
) -> Any:
    """Makes a PaddleOCR that finds and reads lines, without orientation and unwarping.

    Parameters
    ----------
    engine
        PaddleOCR's name of the engine.
    models
        The folder with the models' directories.
    det_config
        The ``engine_config`` of the detector alone.
    **options
        Further ones of PaddleOCR.
    """
    from paddleocr import PaddleOCR
    from paddlex.inference import load_pipeline_config

    config = load_pipeline_config("OCR")
    if det_config is not None:
        config["SubModules"]["TextDetection"]["engine_config"] = dict(det_config)
    return PaddleOCR(
        paddlex_config=config,
        engine=engine,
        text_detection_model_name=DET,
        text_detection_model_dir=str(models / DET),
        text_recognition_model_name=REC,
        text_recognition_model_dir=str(models / REC),
        use_doc_orientation_classify=False,
        use_doc_unwarping=False,
        use_textline_orientation=False,
        **options,
    )


def stock_pipeline(models: Path, **engine_config: Any) -> Any:
    """Makes a PaddleOCR on Paddle's predictors, with oneDNN but for the detector: Paddle 3.3 fails there.

    The keywords are its ``engine_config``.
    """
    detector = {"run_mode": "paddle", **engine_config}
    return ocr_pipeline("paddle_static", models, det_config=detector, engine_config=engine_config or None)
