"""What bench_soak reads with: PaddleOCR over one shared pipeline, and RapidOCR with one object a thread."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import directory

os.environ["PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK"] = "True"  # no network

__all__ = ["READERS", "Read"]

Read = Callable[["np.ndarray[Any, Any]"], int]
"""Reads a page, and returns how many lines it found."""


def _paddleocr(engine_config: Mapping[str, Any]) -> Callable[[], Read]:
    import paddleinfer.paddlex
    from paddleinfer.demo.ocr_pipeline import ocr_pipeline

    logging.getLogger("paddlex").setLevel(logging.ERROR)
    models = directory("ppocr_det").parent
    pipeline = paddleinfer.paddlex.shared(ocr_pipeline("paddleinfer", models, engine_config=engine_config))
    return lambda: lambda page: len(pipeline.predict(page)[0]["rec_texts"])


def _rapidocr(options: Mapping[str, Any]) -> Callable[[], Read]:
    from rapidocr import EngineType, OCRVersion, RapidOCR

    import paddleinfer.rapidocr

    paddleinfer.rapidocr.install(**options)
    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    det, rec = directory("ppocr_det"), directory("ppocr_rec")
    keys = Path("build/rapidocr-keys.txt")
    keys.write_text("\n".join(json.loads((rec / "config.json").read_text())["PostProcess"]["character_dict"]))
    params: dict[str, Any] = {"Rec.rec_keys_path": str(keys), "Global.use_cls": False}
    for task, model in (("Det", det), ("Rec", rec)):
        params |= {
            f"{task}.engine_type": EngineType.PADDLE,
            f"{task}.model_dir": str(model),
            f"{task}.ocr_version": OCRVersion.PPOCRV5,
        }

    def make() -> Read:
        reader = RapidOCR(params=params)

        def read(page: np.ndarray[Any, Any]) -> int:
            texts = reader(page).txts
            return len(texts or ())

        return read

    return make


READERS: dict[str, Callable[[Mapping[str, Any]], Callable[[], Read]]] = {
    "paddleocr": _paddleocr,
    "rapidocr": _rapidocr,
}
"""Each makes, from the engines' options, what makes a thread's reader."""
