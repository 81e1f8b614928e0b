"""The service around stand-ins of the models: what it takes, how it answers, and what it refuses."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc_helpers
import numpy as np
import pytest
from engine_helpers import Arrays, run_threads
from starlette.testclient import TestClient

from paddleinfer import ConfigError, Engine, InvalidInput, ServiceError
from paddleinfer.ocr import Ocr
from paddleinfer.serve import ServiceLimits, Upload
from paddleinfer.serving import PipelineClient
from paddleinfer.shim import create_app

Image = pytest.importorskip("PIL.Image")

ANY = ("float32", (-1, 3, -1, -1))
CHARACTERS = "abc"


def found(inputs: Arrays) -> Arrays:
    """The dark pixels are text."""
    x = next(iter(inputs.values()))
    return {"map": np.where(x.mean(1, keepdims=True) < 0, np.float32(0.9), np.float32(0))}


def reading(classes: str) -> Any:
    """A rec that reads this text in every line, with a score of 0.75; "_" is a blank."""

    def read(inputs: Arrays) -> Arrays:
        x = next(iter(inputs.values()))
        steps = np.zeros((len(x), len(classes), len(CHARACTERS) + 2), "float32")
        for step, letter in enumerate(classes):
            steps[:, step, 0 if letter == "_" else CHARACTERS.index(letter) + 1] = 0.75
        return {"steps": steps}

    return read


def seen(inputs: Arrays) -> Arrays:
    """A rec that reads "a" where a line begins dark, and "b" where it ends so."""
    x = next(iter(inputs.values()))
    dark = x.mean((1, 2))
    width = int(np.flatnonzero(dark[0])[-1]) + 1
    left, right = dark[:, : width // 2].mean(1), dark[:, width // 2 : width].mean(1)
    steps = np.zeros((len(x), 1, len(CHARACTERS) + 2), "float32")
    steps[np.arange(len(x)), 0, np.where(left < right, 1, 2)] = 1
    return {"steps": steps}


def engine(function: Any, output: tuple[int, ...]) -> Engine:
    return Engine.from_callable(function, {"x": ANY}, {"y": ("float32", output)}, batchable=False)


def det() -> Engine:
    return engine(lambda inputs: {"y": found(inputs)["map"]}, (-1, 1, -1, -1))


def rec(read: Any) -> Engine:
    return engine(lambda inputs: {"y": read(inputs)["steps"]}, (-1, -1, len(CHARACTERS) + 2))


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "characters.txt"
    path.write_text("\n".join(CHARACTERS))
    return path


@contextlib.contextmanager
def service_of(listed: Path, read: Any = None, **further: Engine) -> Iterator[Ocr]:
    with contextlib.ExitStack() as opened:
        engines = {"det": det(), "rec": rec(read or reading("aa_ab")), **further}
        for one in engines.values():
            opened.enter_context(one)
        yield opened.enter_context(Ocr(engines, dictionary=listed))


def page(*bars: tuple[int, int, int, int], size: tuple[int, int] = (160, 96)) -> Any:
    """White, with dark bars (left, top, right, bottom)."""
    picture = Image.new("RGB", size, "white")
    for bar in bars:
        picture.paste((0, 0, 0), bar)
    return picture


def written(picture: Any, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


PAGE = page((20, 16, 120, 26), (20, 60, 140, 70))


def test_a_page_is_read_from_every_form_of_request(listed: Path) -> None:
    png = written(PAGE)
    text = base64.b64encode(png).decode()
    pixels = np.asarray(PAGE)[None]
    with service_of(listed) as service:
        for value in (
            png,
            {"image": text},
            {"page": Upload(png)},
            {"image": Upload(png), "lang_type": "en"},
            {"image": pixels, "lang_type": np.array([[b"en"]], object)},
        ):
            answer = service.call(value)
            assert answer["txts"] == ["aab", "aab"] and answer["boxes"].shape == (2, 4, 2)
            np.testing.assert_allclose(answer["scores"], [0.75, 0.75])
            assert answer["boxes"][0, 0, 1] < answer["boxes"][1, 0, 1]


def test_the_server_has_it_in_three_forms(listed: Path) -> None:
    png = written(PAGE)
    with service_of(listed) as service, TestClient(create_app({}, services={"ocr": service})) as client:
        plain = client.post("/services/ocr?lang_type=en", content=png).json()
        assert plain["txts"] == ["aab", "aab"]
        keys = {"key": ["image"], "value": [base64.b64encode(png).decode()]}
        answer = client.post("/ocr/prediction", json=keys).json()
        assert (answer["err_no"], answer["key"]) == (0, ["result"])
        (value,) = answer["value"]
        assert eval(value) == [  # as the documented client does
            [(text, score), box]
            for text, score, box in zip(plain["txts"], plain["scores"], plain["boxes"], strict=True)
        ]
        pixels = np.asarray(PAGE)[None]
        tensors = [
            {
                "name": "image",
                "datatype": "UINT8",
                "shape": pixels.shape,
                "data": pixels.reshape(-1).tolist(),
            },
            {"name": "lang_type", "datatype": "BYTES", "shape": [1, 1], "data": ["en"]},
        ]
        outputs = client.post("/v2/models/ocr/infer", json={"inputs": tensors}).json()["outputs"]
        by_name = {one["name"]: one for one in outputs}
        assert by_name["txts"]["data"] == plain["txts"] and by_name["boxes"]["shape"] == [2, 4, 2]
        assert by_name["scores"]["datatype"] == "FP32"


@pytest.mark.parametrize("size", [(160, 96), (1, 1), (3000, 3)])
def test_a_page_without_text_has_empty_answers(listed: Path, size: tuple[int, int]) -> None:
    with service_of(listed) as service, TestClient(create_app({}, services={"ocr": service})) as client:
        blank = written(page(size=size))
        assert client.post("/services/ocr", content=blank).json() == {"boxes": [], "txts": [], "scores": []}
        pixels = np.full((1, *size[::-1], 3), 255, "uint8")
        answer = service.call({"image": pixels, "lang_type": np.array([[b""]], object)})
        assert answer["boxes"].shape == (0, 4, 2) and answer["scores"].shape == (0,)


def test_lines_of_which_rec_is_not_sure_are_left_out(listed: Path) -> None:
    def unsure(inputs: Arrays) -> Arrays:
        return {"steps": reading("ab")(inputs)["steps"] * 0.6}

    for read in (unsure, reading("___")):
        with service_of(listed, read) as service:
            assert service.call(written(PAGE))["txts"] == []


def test_a_language_of_its_own_has_a_model_of_its_own(listed: Path) -> None:
    with service_of(listed, **{"rec-korean": rec(reading("c"))}) as service:
        png = base64.b64encode(written(PAGE)).decode()
        assert service.call({"image": png, "lang_type": "korean"})["txts"] == ["c", "c"]
        assert service.call({"image": png, "lang_type": "en"})["txts"] == ["aab", "aab"]
        assert service.call({"image": png})["txts"] == ["aab", "aab"]
        assert service.call({"image": png, "lang_type": "x" * 1_000_000})["txts"] == ["aab", "aab"]
        with pytest.raises(InvalidInput, match="lang_type must be a text"):
            service.call({"image": png, "lang_type": 7})


def test_lines_that_cls_sees_upside_down_are_turned(listed: Path) -> None:
    bar = page((20, 30, 120, 60))
    bar.paste((90, 90, 90), (20, 30, 70, 60))  # the left half is lighter

    for sure, text in ((0.95, "a"), (0.5, "b")):
        sides = np.array([[1 - sure, sure]], "float32")
        cls = engine(lambda _, sides=sides: {"y": sides}, (-1, 2))
        with service_of(listed, seen, cls=cls) as service:
            assert service.call(written(bar))["txts"] == [text]


class Reloaded:
    """A rec that is loaded again while it reads its first line: other characters, and other classes."""

    def __init__(self, directory: Path) -> None:
        self.generation = 1
        self.model = SimpleNamespace(path=directory / "old")
        self._directory = directory
        for name, characters in (("old", "xyz"), ("new", "abc")):
            (directory / name).mkdir()
            (directory / name / "keys.txt").write_text("\n".join(characters))

    async def ainfer(self, _: Any, **__: Any) -> Arrays:
        results = reading("ab" if self.generation == 1 else "c")({"x": np.zeros((1, 3, 48, 64))})
        if self.generation == 1:
            self.generation, self.model = 2, SimpleNamespace(path=self._directory / "new")
        return results


def test_a_line_is_read_by_one_model_while_another_takes_its_place(tmp_path: Path) -> None:
    with det() as finding:
        engines: Any = {"det": finding, "rec": Reloaded(tmp_path)}
        with Ocr(engines) as service:
            assert service.call(written(page((20, 16, 120, 26))))["txts"] == ["c"]


def test_the_documented_client_over_grpc_gets_the_documented_answer(listed: Path) -> None:
    image = base64.b64encode(written(PAGE, "JPEG")).decode()
    with service_of(listed) as service, grpc_helpers.serving({}, {"ocr": service}) as server:
        client = PipelineClient()
        client.connect([server.server.addresses[0]])
        result = client.predict(feed_dict={"image": image}, fetch=["res"])
        assert (result.err_no, result.err_msg) == (0, "")
        ocr_result = result.value[0]
        assert [item[0] for item in eval(ocr_result)] == [("aab", 0.75), ("aab", 0.75)]
        assert [len(item[1]) for item in eval(ocr_result)] == [4, 4]


def test_characters_of_another_model_are_an_error_of_the_server(listed: Path) -> None:
    listed.write_text("a\nb")
    with service_of(listed) as service, pytest.raises(ServiceError, match="it is another model's"):
        service.call(written(PAGE))
    with service_of(listed / "no") as service, pytest.raises(ServiceError, match="cannot be read"):
        service.call(written(PAGE))


def test_without_det_and_rec_it_does_not_begin() -> None:
    with det() as engine:
        for engines in ({"det": engine}, engine, {"rec": engine, "a": engine}):
            with pytest.raises(ConfigError, match="needs engines named det and rec"):
                Ocr(engines)
        with pytest.raises(ConfigError, match="the service ocr needs engines"):
            create_app({"det": engine}, services={"ocr": Ocr()})
    for side in (31, 4097, 960.5):
        with pytest.raises(ConfigError, match="longest_side"):
            Ocr(longest_side=side)


@pytest.mark.parametrize(("side", "seen_side"), [(64, 64), (960, 160), (100, 96)])
def test_det_sees_a_page_as_large_as_it_may_be(listed: Path, side: int, seen_side: int) -> None:
    seen_sizes = []

    def noted(inputs: Arrays) -> Arrays:
        seen_sizes.append(inputs["x"].shape[-1])
        return {"y": found(inputs)["map"]}

    with (
        engine(noted, (-1, 1, -1, -1)) as finding,
        rec(reading("a")) as read,
        Ocr({"det": finding, "rec": read}, dictionary=listed, longest_side=side) as service,
    ):
        service.call(written(PAGE))
    assert seen_sizes == [seen_side]


def test_more_lines_than_go_at_once_keep_their_order(listed: Path) -> None:
    rows = [(20, 4 + 14 * row, 20 + 100 + row, 12 + 14 * row) for row in range(68)]
    with service_of(listed) as service:
        answer = service.call(written(page(*rows, size=(240, 960))))
        tops = answer["boxes"][:, 0, 1].tolist()
        assert len(tops) == 68 and tops == sorted(tops)


def test_sixteen_threads_get_what_one_gets(listed: Path) -> None:
    pages = [page((20, 16, 60 + 5 * number, 30), size=(200, 96)) for number in range(4)]
    with service_of(listed, seen) as service:
        expected = [service.call(written(one)) for one in pages]

        def ask(number: int) -> None:
            answer = service.call(written(pages[number % 4]))
            for name, array in expected[number % 4].items():
                np.testing.assert_array_equal(answer[name], array)

        run_threads(16, ask)


PNG = written(PAGE)
HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "text": b"no picture",
    "truncated": PNG[: len(PNG) // 2],
    "a head alone": PNG[:40],
    "a document": b"%PDF-1.7\n" + bytes(100),
    "a bomb": written(Image.new("1", (12_000, 12_000))),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_picture_is_refused_in_every_form_and_the_next_is_read(listed: Path, data: bytes) -> None:
    with service_of(listed) as service, TestClient(create_app({}, services={"ocr": service})) as client:
        refused = client.post("/services/ocr", content=data)
        assert refused.status_code == 400 and "image" in refused.json()["error"]
        keys = {"key": ["image"], "value": [base64.b64encode(data).decode()]}
        answer = client.post("/ocr/prediction", json=keys).json()
        assert answer["err_no"] == 5000 and "image" in answer["err_msg"]
        assert client.post("/services/ocr", content=PNG).json()["txts"] == ["aab", "aab"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"image": np.zeros((1, 0, 0, 3), "uint8")}, "must have from 1 to"),
        ({"image": np.zeros((1, 5, 0, 3), "uint8")}, "must have from 1 to"),
        ({"image": np.zeros((1, 100, 101, 3), "uint8")}, "must have from 1 to 10000"),
        ({"picture": "x"}, "must have one image"),
        ({}, "must have one image"),
        (7, "not as int"),
    ],
)
def test_what_has_no_pixels_or_too_many_is_refused(listed: Path, inputs: Any, words: str) -> None:
    with contextlib.ExitStack() as opened:
        engines = {"det": opened.enter_context(det()), "rec": opened.enter_context(rec(reading("a")))}
        limits = ServiceLimits(max_image_pixels=10_000)
        service = opened.enter_context(Ocr(engines, dictionary=listed, limits=limits))
        with pytest.raises(InvalidInput, match=words):
            service.call(inputs)
