"""PaddleOCR on the engine reads what it reads on Paddle's own predictors, from any number of threads."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from engine_helpers import run_threads
from paddleocr_pipelines import drawn, make, read, stock

from paddleinfer.engine import sharing

pytestmark = pytest.mark.paddlex

PAGES = drawn(6)


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    pipeline = stock()
    return [read(pipeline, page) for page in PAGES]


@pytest.fixture(scope="module")
def package() -> Any:
    import paddleinfer.paddlex

    return paddleinfer.paddlex


@pytest.fixture(scope="module")
def pipeline(package: Any) -> Iterator[Any]:
    with package.shared(make("paddleinfer")) as shared:
        yield shared


def in_use() -> list[Any]:
    gc.collect()
    return list(sharing._registry.shared)


def test_the_pages_have_text(expected: list[Any]) -> None:
    assert all(texts and all(texts) for texts, _, _ in expected)


@pytest.mark.parametrize("threads", [1, 4, 16])
def test_one_pipeline_reads_from_many_threads_what_the_plain_one_reads(
    pipeline: Any, expected: list[Any], threads: int
) -> None:
    def call(number: int) -> None:
        for turn in range(2):
            at = (number + turn) % len(PAGES)
            assert read(pipeline, PAGES[at]) == expected[at]

    run_threads(threads, call)


def test_pipelines_of_threads_share_the_models(pipeline: Any, expected: list[Any]) -> None:
    def call(number: int) -> None:
        assert read(make("paddleinfer"), PAGES[number]) == expected[number]

    run_threads(4, call)
    assert len(in_use()) == 2


def test_tasks_await_pages(pipeline: Any, expected: list[Any]) -> None:
    async def main() -> list[Any]:
        return await asyncio.gather(*(pipeline.apredict(page) for page in PAGES))

    texts = [result["rec_texts"] for (result,) in asyncio.run(main())]
    assert texts == [texts for texts, _, _ in expected]


def test_results_come_one_by_one(pipeline: Any, expected: list[Any]) -> None:
    results = pipeline.predict_iter(PAGES)
    for (texts, _, _), result in zip(expected, results, strict=True):
        assert result["rec_texts"] == texts


def test_the_last_pipeline_ends_the_engines(package: Any, expected: list[Any]) -> None:
    options = {"engine_config": {"trace_requests": 16}}  # engines of their own
    before = len(in_use())
    first, second = make("paddleinfer", **options), package.shared(make("paddleinfer", **options))
    engines = [runner.engine for runner in package.copies.runners_of(first)]
    assert len(engines) == 2 and len(in_use()) == before + 2
    package.close(first)
    assert read(second, PAGES[0]) == expected[0] and not any(engine.closed for engine in engines)
    second.close()
    assert all(engine.closed for engine in engines) and len(in_use()) == before


def test_paddlexs_own_pipeline_and_a_single_model_are_shared_too(package: Any, expected: list[Any]) -> None:
    import paddlex
    from real_models import V5_REC, need

    model = paddlex.create_model(V5_REC, model_dir=str(need(V5_REC)), engine="paddleinfer")
    with package.shared(model) as recognizer:
        left, top, right, bottom = expected[0][2][0]
        (result,) = recognizer.predict(PAGES[0][top:bottom, left:right])
        assert result["rec_text"] == expected[0][0][0]
    inner = make("paddleinfer").paddlex_pipeline
    with package.shared(inner) as shared:
        assert [result["rec_texts"] for result in shared.predict(PAGES[0])] == [expected[0][0]]
        assert shared.text_type == "general"


def test_with_lines_at_their_own_widths_the_texts_stay(package: Any, expected: list[Any]) -> None:
    made = make("paddleinfer", engine_config={"own_widths": True}, text_recognition_batch_size=16)
    with package.shared(made) as shared:
        for page, (texts, _, boxes) in zip(PAGES, expected, strict=True):
            read_texts, _, read_boxes = read(shared, page)
            assert (read_texts, read_boxes) == (texts, boxes)


def test_words_have_the_plain_pipelines_boxes(pipeline: Any) -> None:
    ours, theirs = (
        [result["text_word_boxes"] for result in one.predict(PAGES[1], return_word_box=True)]
        for one in (pipeline, stock())
    )
    assert [[line.tolist() for line in page] for page in ours] == [
        [line.tolist() for line in page] for page in theirs
    ]


def test_an_option_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="engine_config has no option 'threads' for the engine paddleinfer"):
        make("paddleinfer", engine_config={"threads": 3})


def test_a_pipeline_on_paddles_predictors_is_not_shared(package: Any) -> None:
    with pytest.raises(ValueError, match="'PP-OCRv5_mobile_det' runs on an engine that threads cannot share"):
        package.shared(stock())
