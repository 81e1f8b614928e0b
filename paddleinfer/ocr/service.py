"""The service: a picture in, its lines of text out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from paddleinfer.config.checks import check_int
from paddleinfer.errors import ConfigError, InvalidInput, ServiceError
from paddleinfer.ocr.characters import characters_of
from paddleinfer.ocr.detection import LONGEST_SIDE, boxes_of, det_input
from paddleinfer.ocr.lines import Line, cls_input, cut_line, is_upside_down, read_line, rec_input
from paddleinfer.sentences import listed, shown
from paddleinfer.serve.engines import EngineOfService
from paddleinfer.serve.request import Request
from paddleinfer.serve.service import Service
from paddleinfer.serve.tensors import Declared

if TYPE_CHECKING:
    from PIL.Image import Image

    from paddleinfer.engine.engine import Engine

__all__ = ["Ocr"]

Array = npt.NDArray[Any]

_LANGUAGE: Final = "lang_type"
_LEAST_SCORE: Final = 0.5
_SIDES: Final = 32, 4096
# Lines of one page that are with an engine at once, so that a full page leaves room for others.
_LINES_AT_ONCE: Final = 64


class Ocr(Service):
    """Reads pictures with PaddleOCR's models.

    Its engines: ``det`` finds lines of text and ``rec`` reads them; ``cls``, where there is one, says which
    lines are upside down; ``rec-korean``, say, reads them for requests whose ``lang_type`` is ``korean``.
    Lines of all pages share runs.

    A request is a picture: the body, a file of a form, ``image`` in base64 of JSON or of Paddle Serving's
    keys, or the tensor ``image``. The answer has ``boxes`` (lines, 4, 2), ``txts`` and ``scores``, in the
    order of reading; a line with a score below 0.5 is left out.

    Parameters
    ----------
    dictionary
        A file with the characters that a model reads, one a line, where its directory names none.
    longest_side
        Pixels of the longer side of what ``det`` sees, from 32 to 4096; a larger picture is made smaller for
        it. More finds smaller text, and takes longer.
    options
        As of ``Service``.
    """

    inputs: ClassVar[Declared] = {"image": ("uint8", (1, -1, -1, 3)), _LANGUAGE: ("bytes", (1, 1))}
    """Red, green and blue of each pixel, in rows from the top; a language, which may be empty."""
    outputs: ClassVar[Declared] = {
        "boxes": ("float32", (-1, 4, 2)),
        "txts": ("bytes", (-1,)),
        "scores": ("float32", (-1,)),
    }
    """As docling's client for KServe v2 reads them."""

    def __init__(
        self,
        *args: Any,
        dictionary: str | Path | None = None,
        longest_side: int = LONGEST_SIDE,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        check_int("longest_side", longest_side, *_SIDES)
        self._dictionary = None if dictionary is None else Path(dictionary)
        self._longest_side = longest_side
        self._characters: dict[Path, list[str]] = {}

    def use(self, engines: Engine | Mapping[str, Engine], name: str | None = None) -> None:
        """Gives the service its engines; raises ConfigError if ``det`` or ``rec`` is missing."""
        missing = [one for one in ("det", "rec") if isinstance(engines, Mapping) and one not in engines]
        if missing or not isinstance(engines, Mapping):
            raise ConfigError(
                f"the service {name or self.name} needs engines named det and rec, "
                f"and there is {listed(engines) if isinstance(engines, Mapping) else shown(engines)}"
            )
        super().use(engines, name)

    async def handle(self, request: Request) -> Any:
        """Reads one picture."""
        rec = self._rec(request)
        picture, det = await self.in_thread(_prepared, request, self._longest_side)
        (scores,) = (await self.engines.det.ainfer([det])).values()
        cut = await self.in_thread(_cut, picture, scores)
        lines: list[Line] = []
        for begin in range(0, len(cut), _LINES_AT_ONCE):
            lines += await asyncio.gather(
                *(self._read(rec, *one) for one in cut[begin : begin + _LINES_AT_ONCE])
            )
        kept = [line for line in lines if line.text and line.score >= _LEAST_SCORE]
        return {
            "boxes": np.array([line.box for line in kept], np.float32).reshape(-1, 4, 2),
            "txts": [line.text for line in kept],
            "scores": np.array([line.score for line in kept], np.float32),
        }

    def prediction(self, answer: Any) -> Mapping[str, Any]:
        """As Paddle Serving's OCR pipeline answers: ``result`` is a list in Python's form."""
        lines = zip(answer["txts"], answer["scores"].tolist(), answer["boxes"].tolist(), strict=True)
        return {"result": str([[(text, score), box] for text, score, box in lines])}

    async def _read(self, rec: EngineOfService, box: Array, pixels: Array) -> Line:
        if "cls" in self.engines:
            (sides,) = (await self.engines.cls.ainfer([cls_input(pixels)])).values()
            if is_upside_down(sides):
                pixels = pixels[::-1, ::-1]
        while True:
            generation, path = rec.generation, rec.model.path
            (steps,) = (await rec.ainfer([rec_input(pixels)])).values()
            if rec.generation == generation:  # else it was loaded again, and this may be of either model
                break
        text, score = await self.in_thread(self._text_of, path, steps[0])
        return Line(text, score, box)

    def _rec(self, request: Request) -> EngineOfService:
        language = f"rec-{_language(request)}"
        return self.engines[language if language in self.engines else "rec"]

    def _text_of(self, path: Path, steps: Array) -> tuple[str, float]:
        try:
            if path not in self._characters:
                self._characters[path] = characters_of(path, self._dictionary)
            characters = self._characters[path]
            if steps.shape[-1] != len(characters) + 1:
                raise ConfigError(
                    f"the model {path} has {steps.shape[-1]} classes, and its list of characters makes "
                    f"{len(characters) + 1}: it is another model's"
                )
        except ConfigError as error:
            raise ServiceError(str(error), stage="handle") from error
        return read_line(steps, characters)


def _prepared(request: Request, longest_side: int) -> tuple[Image, Array]:
    picture = _picture(request)
    return picture, det_input(picture, longest_side)


def _cut(picture: Image, scores: Array) -> list[tuple[Array, Array]]:
    """The boxes, each with its pixels."""
    return [(box, cut_line(picture, box)) for box in boxes_of(scores[0, 0], picture.size)]


def _picture(request: Request) -> Image:
    value = request.value
    if not (isinstance(value, dict) and isinstance(value.get("image"), np.ndarray)):
        return request.image("image" if isinstance(value, dict) and "image" in value else None)
    from PIL import Image

    pixels: Array = value["image"][0]
    height, width = pixels.shape[:2]
    if not 0 < height * width <= request.limits.max_image_pixels:
        raise InvalidInput(
            f"the image has {width} x {height} pixels, and must have from 1 to "
            f"{request.limits.max_image_pixels} in all (max_image_pixels)"
        )
    return Image.fromarray(pixels)


def _language(request: Request) -> str:
    """What `lang_type` says; empty where nothing does."""
    value = request.value
    given = value.get(_LANGUAGE, "") if isinstance(value, dict) else request.query.get(_LANGUAGE, "")
    if isinstance(given, np.ndarray):
        given = given.item()
    if isinstance(given, bytes):
        given = given.decode("utf-8", "replace")
    if not isinstance(given, str):
        raise InvalidInput(f"{_LANGUAGE} must be a text such as en, not {shown(given)}")
    return given
