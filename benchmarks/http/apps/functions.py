"""The functions around the model that each server of bench_services_http runs: numbers in, a label out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

Rows = np.ndarray[Any, Any]


def row_of(document: Mapping[str, Any]) -> Rows:
    """``{"x": numbers}`` -> float32 of shape (1, width)."""
    return np.asarray(document["x"], np.float32)[None]


def answer_of(scores: Rows) -> dict[str, Any]:
    """One row of results, of shape (classes,) -> the label of its largest, and all of them."""
    return {"label": int(scores.argmax()), "scores": scores.tolist()}
