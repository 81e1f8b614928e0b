"""Defaults of an engine by the kind of its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from paddleinfer.paddlex.versions import part

__all__ = ["defaults_of", "is_recognizer"]

_CONFIG: Final = "paddlex.inference.models.runners.paddle_static.config"


def is_recognizer(model_name: str) -> bool:
    """Whether the model reads the text of lines."""
    return model_name.endswith("_rec") and ("PP-OCR" in model_name or "SVTR" in model_name)


def defaults_of(model_name: str, model_file: Path, device: str, backend: str | None) -> dict[str, Any]:
    """Returns the options that hold where ``engine_config`` says nothing.

    Parameters
    ----------
    model_name
        PaddleX's name of the model.
    model_file
        The file that is loaded.
    device, backend
        Where and by what it runs; None is Paddle, and onnxruntime for an ONNX model.
    """
    # A page waits for its turn, since PaddleX has no answer to a full queue.
    defaults: dict[str, Any] = {"device": device, "on_full": "wait"}
    if model_file.suffix == ".onnx":
        defaults["backend"] = backend = "onnxruntime"
    if is_recognizer(model_name):
        defaults["batchable"] = True  # lines are independent, and need no comparing
        if device == "cpu":
            # A line costs the same alone and in a batch there, so each goes to the next idle instance.
            defaults["max_batch_size"] = 1
    if backend in (None, "paddle"):
        defaults["ir_optim"] = True  # as PaddleX's own runner
        if device == "cpu" and model_name in part(_CONFIG, "MKLDNN_BLOCKLIST"):
            defaults["onednn"] = False
    return defaults
