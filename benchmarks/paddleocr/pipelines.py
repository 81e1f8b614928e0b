"""Makes PaddleOCR's pipeline with PP-OCRv5's mobile models, on each of the engines that are compared."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.models import directory
from paddleinfer.demo.ocr_pipeline import DET, REC, ocr_pipeline, stock_pipeline

__all__ = ["WAYS"]

_ONNX = Path("build/onnx-of-paddleocr")


def _models() -> Path:
    return directory("ppocr_det").parent


def _without_pass() -> Any:
    """By hand, and further: the detector with oneDNN, without the pass that makes Paddle 3.3 fail."""
    return ocr_pipeline("paddle_static", _models(), {"delete_pass": ["onednn_placement_pass"]})


def _onnxruntime() -> Any:
    """PaddleX's own engine for onnxruntime, over the models as paddle2onnx converts them."""
    import paddle2onnx

    for name in (DET, REC):
        source, folder = _models() / name, _ONNX / name
        if not (folder / "inference.onnx").exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / "inference.yml", folder)
            paddle2onnx.export(
                str(source / "inference.json"),
                str(source / "inference.pdiparams"),
                str(folder / "inference.onnx"),
            )
    return ocr_pipeline("onnxruntime", _ONNX)


def _ours(engine_config: dict[str, Any]) -> Any:
    import paddleinfer.paddlex

    options: dict[str, Any] = {}
    if engine_config.get("own_widths"):
        options["text_recognition_batch_size"] = 16
    pipeline = ocr_pipeline("paddleinfer", _models(), engine_config=engine_config, **options)
    return paddleinfer.paddlex.shared(pipeline)


def _mkldnn_off() -> Any:
    """The one switch that PaddleOCR has against the failure."""
    return ocr_pipeline("paddle_static", _models(), enable_mkldnn=False)


OPENVINO = {"backend": "openvino"}
ONNXRUNTIME = {"backend": "onnxruntime"}

WAYS: dict[str, Callable[[], Any]] = {
    "tuned": lambda: stock_pipeline(_models()),
    "tuned_on_one_thread": lambda: stock_pipeline(_models(), cpu_threads=1),
    "without_pass": _without_pass,
    "mkldnn_off": _mkldnn_off,
    "onnxruntime": _onnxruntime,
    "ours": lambda: _ours({}),
    "ours_openvino": lambda: _ours(OPENVINO),
    "ours_openvino_det": lambda: _ours({"models": {DET: OPENVINO, REC: ONNXRUNTIME}}),
    "ours_onnxruntime": lambda: _ours(ONNXRUNTIME),
    "ours_own_widths": lambda: _ours({"own_widths": True}),
    "ours_openvino_own_widths": lambda: _ours({**OPENVINO, "own_widths": True}),
    "ours_onnxruntime_own_widths": lambda: _ours({**ONNXRUNTIME, "own_widths": True}),
}
