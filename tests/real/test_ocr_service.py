"""PaddleOCR's models in the service that reads pages: from many clients what the plain pipeline reads."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from engine_helpers import PATIENCE_S, run_threads
from http_helpers import Served, serving_services
from ocr_pages import DICTIONARY, PlainReader, encoded, page_of
from PIL import Image
from real_models import CLS, V4_DET, V4_REC, V5_DET, V5_REC, need

from paddleinfer import Engine
from paddleinfer.ocr import Ocr

CLIENTS = 16
PAGES = [
    page_of(0),
    page_of(1, width=320),
    page_of(2),
    page_of(3, lines=2, turned=4),
    Image.new("RGB", (90, 60), "white"),
]


@dataclass
class Reader:
    """A server with the service, and what is in the pages."""

    server: Served
    expected: list[list[str]]

    def post(self, path: str, **options: Any) -> httpx.Response:
        return httpx.post(f"http://127.0.0.1:{self.server.port}{path}", timeout=PATIENCE_S, **options)

    def read(self, number: int) -> list[str]:
        """The texts of a page, asked for in one of the three forms."""
        page = PAGES[number % len(PAGES)]
        form = number % 3
        if form == 0:
            return list(self.post("/services/ocr", content=encoded(page, "JPEG")).json()["txts"])
        if form == 1:
            text = base64.b64encode(encoded(page)).decode()
            answer = self.post("/ocr/prediction", json={"key": ["image"], "value": [text]}).json()
            assert answer["err_no"] == 0, answer
            return [text for (text, _), _ in eval(answer["value"][0])]
        return read_tensors(self, page)


def read_tensors(reader: Reader, page: Any) -> list[str]:
    pixels, language = np.asarray(page)[None], b"\2\0\0\0en"
    head = {
        "inputs": [
            {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": size}}
            for name, kind, shape, size in (
                ("image", "UINT8", pixels.shape, pixels.nbytes),
                ("lang_type", "BYTES", [1, 1], len(language)),
            )
        ]
    }
    json = orjson.dumps(head)
    headers = {"Inference-Header-Content-Length": str(len(json))}
    answer = reader.post("/v2/models/ocr/infer", content=json + pixels.tobytes() + language, headers=headers)
    assert answer.status_code == 200, answer.text
    outputs = {output["name"]: output for output in answer.json()["outputs"]}
    assert outputs["boxes"]["shape"] == [len(outputs["txts"]["data"]), 4, 2]
    return list(outputs["txts"]["data"])


@pytest.fixture(
    params=[
        pytest.param((V5_DET, V5_REC), marks=pytest.mark.paddle3, id="v5"),
        pytest.param((V4_DET, V4_REC), marks=pytest.mark.real, id="v4"),
    ],
    scope="module",
)
def reader(request: pytest.FixtureRequest) -> Iterator[Reader]:
    det, rec = request.param
    plain = PlainReader(det, rec)
    expected = [plain(page) for page in PAGES]
    with (
        Engine(need(det)) as det_engine,
        Engine(need(rec)) as rec_engine,
        Ocr(dictionary=DICTIONARY) as ocr,
        serving_services({"det": det_engine, "rec": rec_engine}, {"ocr": ocr}) as server,
    ):
        yield Reader(server, expected)


def test_the_plain_pipeline_finds_every_line(reader: Reader) -> None:
    assert [len(lines) for lines in reader.expected] == [3, 3, 3, 2, 0]


def test_many_clients_read_what_the_plain_pipeline_reads(reader: Reader) -> None:
    # JPEG's pixels are others, so that those pages are compared with what one client gets.
    alone = {number: reader.read(number) for number in range(3 * len(PAGES))}
    for number, texts in alone.items():
        if number % 3:
            assert texts == reader.expected[number % len(PAGES)]

    def ask(number: int) -> None:
        for place in (number, number + 5, number + 10):
            assert reader.read(place) == alone[place % len(alone)]

    run_threads(CLIENTS, ask)


def hostile() -> dict[str, bytes]:
    """Files that are no page, or an odd one."""
    png, jpeg = encoded(PAGES[0]), encoded(PAGES[0], "JPEG")
    return {
        "0 bytes": b"",
        "text": b"GET / HTTP/1.1\r\n\r\n",
        "a bomb": encoded(Image.new("1", (20_000, 20_000))),
        "half a PNG": png[: len(png) // 2],
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "1 x 1": encoded(Image.new("RGB", (1, 1))),
        "10000 x 10": encoded(Image.new("RGB", (10_000, 10), "white")),
        "10 x 10000": encoded(Image.effect_noise((10, 10_000), 90)),
        "noise": encoded(Image.effect_noise((200, 200), 120)),
    }


@pytest.mark.real
@pytest.mark.parametrize("name", hostile())
def test_hostile_pictures_get_a_sentence_or_an_empty_page_and_the_next_is_read(
    reader: Reader, name: str
) -> None:
    data = hostile()[name]
    is_picture = " x " in name or name == "noise"
    answer = reader.post("/services/ocr", content=data)
    assert answer.status_code == (200 if is_picture else 400), answer.text
    assert answer.json()["txts"] == [] if is_picture else "image" in answer.json()["error"]
    keys = {"key": ["image"], "value": [base64.b64encode(data).decode()]}
    document = reader.post("/ocr/prediction", json=keys).json()
    assert (
        (document["err_no"], document["value"]) == (0, ["[]"]) if is_picture else document["err_no"] == 5000
    )
    if is_picture:
        with Image.open(io.BytesIO(data)) as picture:
            assert read_tensors(reader, picture.convert("RGB")) == []
    assert reader.read(2) == reader.expected[2]


@pytest.mark.real
def test_cls_turns_a_page_that_stands_on_its_head() -> None:
    plain = PlainReader(V5_DET, V5_REC)
    expected = plain(PAGES[1])
    with (
        Engine(need(V5_DET)) as det,
        Engine(need(V5_REC)) as rec,
        Engine(need(CLS)) as cls,
        Ocr({"det": det, "rec": rec, "cls": cls}) as ocr,
    ):
        upside_down = encoded(PAGES[1].rotate(180))
        assert sorted(ocr.call(upside_down)["txts"]) == sorted(expected)
        assert ocr.call(encoded(PAGES[1]))["txts"] == expected
