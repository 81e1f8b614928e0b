"""PaddleOCR's models in onnxruntime, on pictures of text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from real_models import CLS, V4_DET, V4_REC, V5_DET, V5_REC, need, pictures

from paddleinfer import Engine
from paddleinfer.engine.differences import difference_of

pytestmark = [
    pytest.mark.paddle3,
    pytest.mark.onnx,
]


@pytest.mark.parametrize("name", [V5_DET, V5_REC, V4_DET, V4_REC, CLS])
def test_a_real_model_answers_threads_as_it_does_on_paddle(name: str, tmp_path: Path) -> None:
    model, inputs = need(name), pictures(name)
    with (
        Engine(model, backend="onnxruntime", onnx_cache=tmp_path, instances=2) as engine,
        ThreadPoolExecutor(4) as threads,
    ):
        given = list(threads.map(lambda picture: next(iter(engine.infer({"x": picture}).values())), inputs))
    with Engine(model, onednn=False, instances=1, batchable=False) as paddle:
        wanted = [next(iter(paddle.infer({"x": picture}).values())) for picture in inputs]
    largest = max(float(np.abs(output).max()) for output in wanted)
    for output, other in zip(given, wanted, strict=True):
        difference, allowed = difference_of(output, other, largest)
        assert difference <= allowed
