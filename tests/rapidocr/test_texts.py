"""RapidOCR on the engine reads real pages as it does on Paddle, from one thread and from four."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import run_threads
from ocr_pages import page_of
from real_models import CLS, V5_DET, V5_REC, need

from paddleinfer import rapidocr

# What the packages warn of when they are imported is theirs.
pytestmark = [pytest.mark.rapidocr, pytest.mark.filterwarnings("ignore")]

PAGES = [np.asarray(page_of(seed, width=256 + 64 * (seed % 2), lines=2)) for seed in range(4)]

# RapidOCR would enlarge small pages to 736 pixels, which costs time alone.
_LEAST_SIDE = 96

Lines = list[tuple[str, list[Any]]]
Read = Callable[[Any, Any], Lines]


@pytest.fixture
def taken_back() -> Iterator[None]:
    yield
    rapidocr.uninstall()


def of_version_3(tmp_path: Path) -> tuple[Callable[[], Any], Read]:
    """Makes a reader with PP-OCRv5's models on the Paddle engine, and reads with it."""
    from rapidocr import EngineType, OCRVersion, RapidOCR

    keys = tmp_path / "keys.txt"
    listed = json.loads((need(V5_REC) / "config.json").read_text())["PostProcess"]["character_dict"]
    keys.write_text("\n".join(listed))
    params: dict[str, Any] = {"Rec.rec_keys_path": str(keys), "Det.limit_side_len": _LEAST_SIDE}
    for task, model in (("Det", V5_DET), ("Cls", CLS), ("Rec", V5_REC)):
        params.update({f"{task}.engine_type": EngineType.PADDLE, f"{task}.model_dir": str(need(model))})
    params.update({f"{task}.ocr_version": OCRVersion.PPOCRV5 for task in ("Det", "Rec")})

    def read(reader: Any, page: Any) -> Lines:
        found = reader(page)
        return [(text, box.tolist()) for text, box in zip(found.txts, found.boxes, strict=True)]

    return lambda: RapidOCR(params=params), read


def of_version_1(tmp_path: Path) -> tuple[Callable[[], Any], Read]:
    """The same with the PP-OCRv4 models that rapidocr_paddle brings."""
    from rapidocr_paddle import RapidOCR

    def read(reader: Any, page: Any) -> Lines:
        return [(text, box) for box, text, _ in reader(page)[0]]

    return lambda: RapidOCR(det_limit_side_len=_LEAST_SIDE), read


@pytest.mark.parametrize("package", [of_version_3, of_version_1])
def test_texts_and_boxes_are_those_of_paddle(
    package: Callable[[Path], tuple[Callable[[], Any], Read]], tmp_path: Path, taken_back: None
) -> None:
    make, read = package(tmp_path)
    plain = make()
    expected = [read(plain, page) for page in PAGES]
    assert all(len(lines) >= 2 for lines in expected)

    rapidocr.install()
    reader = make()
    assert [read(reader, page) for page in PAGES] == expected

    engines = set()
    lock = threading.Lock()

    def work(number: int) -> None:
        own = make()
        for turn in range(len(PAGES)):
            at = (number + turn) % len(PAGES)
            assert read(own, PAGES[at]) == expected[at]
        with lock:
            engines.add(own.text_rec.session.predictor.engine)

    run_threads(4, work)
    assert engines == {reader.text_rec.session.predictor.engine}
