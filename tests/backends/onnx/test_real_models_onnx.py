"""PaddleOCR's models in other runtimes, on pictures of text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from real_models import CLS, V4_DET, V4_REC, V5_DET, V5_REC, need, pictures

from paddleinfer import Engine
from paddleinfer.config import Backend
from paddleinfer.engine.differences import difference_of

pytestmark = [
    pytest.mark.paddle3,
    pytest.mark.onnx,
]


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        *(("onnxruntime", name) for name in (V5_DET, V5_REC, V4_DET, V4_REC, CLS)),
        *(("openvino", name) for name in (V5_DET, V5_REC, V4_REC)),
    ],
)
def test_a_real_model_answers_threads_as_it_does_on_paddle(backend: Backend, name: str, folder: Path) -> None:
    model, inputs = need(name), pictures(name)
    with (
        Engine(model, backend=backend, onnx_cache=folder, instances=2) as engine,
        ThreadPoolExecutor(4) as threads,
    ):
        given = list(threads.map(lambda picture: next(iter(engine.infer({"x": picture}).values())), inputs))
    with Engine(model, onednn=False, instances=1, batchable=False) as paddle:
        wanted = [next(iter(paddle.infer({"x": picture}).values())) for picture in inputs]
    largest = max(float(np.abs(output).max()) for output in wanted)
    for output, other in zip(given, wanted, strict=True):
        difference, allowed = difference_of(output, other, largest)
        assert difference <= allowed
