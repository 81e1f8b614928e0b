"""PaddleOCR's det and rec in one service: under many clients, the lines that the plain pipeline reads."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import orjson
import pytest
from engine_helpers import run_threads
from http_helpers import serving_services
from ocr_service import Ocr, bands, det_input, rec_input
from PIL import Image, ImageDraw, ImageFont
from real_models import V4_DET, V4_REC, V5_DET, V5_REC, Plain, characters, need
from real_pictures import texts, words

from paddleinfer import Engine

PAGES = 3
CLIENTS = 24


def page_of(seed: int) -> Any:
    """A picture of two lines."""
    picture = Image.new("RGB", (224, 96), "white")
    drawn, font = ImageDraw.Draw(picture), ImageFont.load_default(26)
    for number in range(2):
        drawn.text((12, 8 + 44 * number), words(10 * seed + number, 2), "black", font)
    return picture


def read_plainly(det: Plain, rec: Plain, listed: list[str], picture: Any) -> list[str]:
    scores = det(det_input(np.asarray(picture)))[0, 0]
    return [text for band in bands(scores) for text in texts(rec(rec_input(picture, band)), listed)]


@pytest.mark.parametrize(
    ("det", "rec"),
    [
        pytest.param(V5_DET, V5_REC, marks=pytest.mark.paddle3),
        pytest.param(V4_DET, V4_REC, marks=pytest.mark.real),
    ],
    ids=["v5", "v4"],
)
def test_many_clients_read_what_the_plain_pipeline_reads(det: str, rec: str) -> None:
    pictures, listed = [page_of(seed) for seed in range(PAGES)], characters(rec)
    plain_det = Plain(det, onednn=det != V5_DET, ir_optim=det == V5_DET)
    plain_rec = Plain(rec, ir_optim=rec == V5_REC)
    expected = [read_plainly(plain_det, plain_rec, listed, picture) for picture in pictures]
    assert all(len(lines) == 2 for lines in expected)
    bodies = []
    for picture in pictures:
        written = io.BytesIO()
        picture.save(written, "PNG")
        bodies.append(written.getvalue())
    with Engine(need(det)) as det_engine, Engine(need(rec)) as rec_engine, Ocr(listed) as service:
        engines = {"det": det_engine, "rec": rec_engine}
        with serving_services(engines, {"ocr": service}) as server:

            def ask(number: int) -> None:
                place = number % PAGES
                head = (
                    f"POST /services/ocr HTTP/1.1\r\nHost: t\r\nContent-Length: {len(bodies[place])}\r\n\r\n"
                )
                answer = server.exchange(head.encode() + bodies[place])
                assert orjson.loads(answer.partition(b"\r\n\r\n")[2]) == {"lines": expected[place]}

            run_threads(CLIENTS, ask)
            assert service.stats()["outcomes"]["result"] == CLIENTS
