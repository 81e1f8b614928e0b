"""PaddleOCR on engines over other runtimes than Paddle reads the same texts in the same boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from engine_helpers import run_threads
from paddleocr_pipelines import drawn, make, read, stock

from paddleinfer.demo.ocr_pipeline import DET, REC

pytestmark = [pytest.mark.paddlex, pytest.mark.onnx]

PAGES = drawn(6)
# What the tolerance between runtimes leaves of a probability.
TOLERANCE = 1e-3

CONFIGS: dict[str, dict[str, Any]] = {
    "openvino": {"backend": "openvino"},
    "onnxruntime": {"backend": "onnxruntime"},
    "det openvino, rec onnxruntime": {
        "models": {DET: {"backend": "openvino"}, REC: {"backend": "onnxruntime"}}
    },
}


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    pipeline = stock()
    return [read(pipeline, page) for page in PAGES]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_texts_and_boxes_are_the_plain_pipelines_from_many_threads(
    config: dict[str, Any], expected: list[Any]
) -> None:
    import paddleinfer.paddlex

    with paddleinfer.paddlex.shared(make("paddleinfer", engine_config=config)) as shared:

        def call(number: int) -> None:
            for turn in range(2):
                at = (number + turn) % len(PAGES)
                texts, scores, boxes = read(shared, PAGES[at])
                assert (texts, boxes) == (expected[at][0], expected[at][2])
                np.testing.assert_allclose(scores, expected[at][1], rtol=0, atol=TOLERANCE)

        run_threads(4, call)


def test_each_model_runs_where_its_name_says(expected: list[Any]) -> None:
    import paddleinfer.paddlex
    from paddleinfer.paddlex.copies import runners_of

    pipeline = make("paddleinfer", engine_config=CONFIGS["det openvino, rec onnxruntime"])
    backends = {runner.engine.effective_config()["backend"]["value"] for runner in runners_of(pipeline)}
    assert backends == {"openvino", "onnxruntime"}
    paddleinfer.paddlex.close(pipeline)
