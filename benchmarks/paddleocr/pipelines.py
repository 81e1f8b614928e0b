"""Makes PaddleOCR's pipeline with PP-OCRv5's mobile models, on each of the engines that are compared."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.models import directory

__all__ = ["WAYS", "stock"]

_DET, _REC = "PP-OCRv5_mobile_det", "PP-OCRv5_mobile_rec"
_ONNX = Path("build/onnx-of-paddleocr")


def stock(engine: str | None = None, det: dict[str, Any] | None = None, **options: Any) -> Any:
    """Makes a PaddleOCR; `det` are options of the detector's engine alone."""
    from paddleocr import PaddleOCR
    from paddlex.inference import load_pipeline_config

    config = load_pipeline_config("OCR")
    if det is not None:
        config["SubModules"]["TextDetection"]["engine_config"] = det
    options.setdefault("text_detection_model_dir", str(directory("ppocr_det")))
    options.setdefault("text_recognition_model_dir", str(directory("ppocr_rec")))
    return PaddleOCR(
        paddlex_config=config,
        engine=engine,
        text_detection_model_name=_DET,
        text_recognition_model_name=_REC,
        use_doc_orientation_classify=False,
        use_doc_unwarping=False,
        use_textline_orientation=False,
        **options,
    )


def _tuned() -> Any:
    """By hand: the detector without oneDNN, where Paddle 3.3 fails."""
    return stock("paddle_static", det={"run_mode": "paddle"})


def _without_pass() -> Any:
    """By hand, and further: the detector with oneDNN, without the pass that makes Paddle 3.3 fail."""
    return stock("paddle_static", det={"delete_pass": ["onednn_placement_pass"]})


def _onnxruntime() -> Any:
    """PaddleX's own engine for onnxruntime, over the models as paddle2onnx converts them."""
    import paddle2onnx

    folders: dict[str, Any] = {}
    for task, model in (("detection", "ppocr_det"), ("recognition", "ppocr_rec")):
        source, folder = directory(model), _ONNX / model
        folders[f"text_{task}_model_dir"] = str(folder)
        if not (folder / "inference.onnx").exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / "inference.yml", folder)
            paddle2onnx.export(
                str(source / "inference.json"),
                str(source / "inference.pdiparams"),
                str(folder / "inference.onnx"),
            )
    return stock("onnxruntime", **folders)


def _ours(engine_config: dict[str, Any]) -> Any:
    import paddleinfer.paddlex

    options: dict[str, Any] = {}
    if engine_config.get("own_widths"):
        options["text_recognition_batch_size"] = 16
    pipeline = stock("paddleinfer", engine_config=engine_config, **options)
    return paddleinfer.paddlex.shared(pipeline)


WAYS: dict[str, Callable[[], Any]] = {
    "tuned": _tuned,
    "without_pass": _without_pass,
    "mkldnn_off": lambda: stock("paddle_static", engine_config={"run_mode": "paddle", "cpu_threads": 10}),
    "onnxruntime": _onnxruntime,
    "ours": lambda: _ours({}),
    "ours_onnxruntime": lambda: _ours({"backend": "onnxruntime"}),
    "ours_own_widths": lambda: _ours({"own_widths": True}),
    "ours_onnxruntime_own_widths": lambda: _ours({"backend": "onnxruntime", "own_widths": True}),
}
