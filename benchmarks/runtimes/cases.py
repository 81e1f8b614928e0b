"""Provides the models and requests of bench_runtimes, and the runtimes that are installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import FURTHER, MODELS, BenchModel, directory
from benchmarks.real.variants import LINE_WIDTHS, batched
from tests.support.real_pictures import line, page

Array = np.ndarray[Any, Any]

PADDLE = "paddle"
# Of other packages; an engine over them needs paddle2onnx, too.
OTHERS = ("onnxruntime", "openvino")
# The rows of a batch of PaddleOCR's recognizer.
LINES = 6


def installed() -> list[str]:
    """Returns the runtimes that are installed here."""
    converts = importlib.util.find_spec("paddle2onnx") is not None
    return [PADDLE, *(name for name in OTHERS if converts and importlib.util.find_spec(name) is not None)]


@dataclass(frozen=True)
class Case:
    """One model and the requests that every caller sends in turn."""

    model: str
    requests: Callable[[], Sequence[Array]]
    format: str = "json"
    times_paddle: float | None = None
    """The wanted gain of the fastest runtime's engine over the Paddle engine with its defaults."""

    @property
    def path(self) -> Path:
        """The model's directory, which is made or fetched if it is missing."""
        return directory(self.model, self.format)


def _fed(model: str, rows: int = 1) -> Case:
    bench = {**MODELS, **FURTHER}[model]
    assert isinstance(bench, BenchModel)
    feed = bench.feed
    return Case(model, lambda: [feed(rows, seed)["x"] for seed in range(4)])


def _lines(width: int) -> Callable[[], Sequence[Array]]:
    return lambda: [line(width, seed) for seed in range(12)]


def _page_of_lines() -> Sequence[Array]:
    widths = np.random.default_rng(3).permutation(LINE_WIDTHS)
    return [line(int(width), seed) for seed, width in enumerate(widths)]


CASES = {
    "rec, a line of 320": Case("ppocr_rec", _lines(320)),
    "rec, lines of a page": Case("ppocr_rec", _page_of_lines, times_paddle=2.0),
    f"rec, {LINES} lines a request": Case("ppocr_rec", lambda: batched(_page_of_lines(), LINES)),
    "det, 640x640": Case("ppocr_det", lambda: [page(640, 640, seed) for seed in range(4)], times_paddle=4.0),
    "cls": Case("ppocr_cls", _lines(192), format="legacy"),
    "mlp": _fed("mlp"),
    "wide_mlp": _fed("wide_mlp"),
    "mobilenet_v2": _fed("mobilenet_v2"),
    "transformer": _fed("transformer"),
}
