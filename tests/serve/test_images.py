"""Pictures of a request: decoded by Pillow, and refused before they are decoded where they are too large."""

from __future__ import annotations

import base64
import io
import random
import re
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from paddleinfer import InvalidInput, ServiceError
from paddleinfer.serve import Request, Service, ServiceLimits, Upload

Image = pytest.importorskip("PIL.Image")

PICTURE = Image.fromarray(np.arange(6 * 5 * 3, dtype="uint8").reshape(6, 5, 3))


def encoded(picture: Any = PICTURE, kind: str = "PNG", **options: Any) -> bytes:
    written = io.BytesIO()
    picture.save(written, kind, **options)
    return written.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IEND", b"")


def image_of(value: Any, *args: Any, limits: ServiceLimits | None = None, **options: Any) -> Any:
    with Service({}, handle=lambda request, _: request.image(*args, **options), limits=limits) as service:
        return service.call(value)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP"])
def test_a_picture_is_its_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    picture = image_of(encoded(kind=kind, **options))
    assert (picture.mode, picture.size) == ("RGB", (5, 6))
    if kind != "GIF":  # which has a palette
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(PICTURE))


def test_a_picture_comes_in_the_mode_that_is_asked_for() -> None:
    assert np.asarray(image_of(encoded(), mode="L")).shape == (6, 5)
    assert image_of(encoded(PICTURE.convert("RGBA"))).mode == "RGB"


def test_a_picture_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera that was turned
    assert image_of(encoded(kind="JPEG", exif=exif)).size == (6, 5)


def test_a_file_of_a_form_is_found() -> None:
    form = {"lang": "de", "page": Upload(encoded())}
    assert image_of(form).size == (5, 6)
    assert image_of(form, "page").size == (5, 6)
    with pytest.raises(InvalidInput, match="has no image 'other'; it has lang, page"):
        image_of(form, "other")
    with pytest.raises(InvalidInput, match="must have one image, and has 2 files"):
        image_of({**form, "more": Upload(b"")})
    with pytest.raises(InvalidInput, match="as a file of a form"):
        image_of({"page": 7}, "page")
    with pytest.raises(InvalidInput, match="must be a form"):
        image_of(encoded(), "page")
    with pytest.raises(InvalidInput, match="not as int"):
        image_of(3)


def test_a_picture_may_be_base64_in_json() -> None:
    text = base64.b64encode(encoded()).decode()
    lines = base64.encodebytes(encoded()).decode()
    for value in (text, lines):
        assert image_of({"page": value}, "page").size == (5, 6)
    for value in ("no base64!", "abc", "é"):
        with pytest.raises(InvalidInput, match="must be in base64"):
            image_of({"page": value}, "page")
    with pytest.raises(InvalidInput, match="none of PNG"):
        image_of({"page": "text"}, "page")
    with pytest.raises(InvalidInput, match="not as str"):  # which is a body of another type
        image_of(text)


BOMBS = {
    "png": png(60_000, 60_000, chunk(b"IDAT", zlib.compress(bytes(1 << 20)))),
    "png of Pillow's own limit": png(9_600, 9_600, chunk(b"IDAT", b"")),
    "gif": b"GIF89a" + struct.pack("<HH", 65_000, 65_000) + encoded(kind="GIF")[10:],
    "bmp": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_it_is_decoded(bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: Any) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(InvalidInput, match="max_image_pixels"):
        image_of(BOMBS[bomb])


def test_a_bomb_in_a_pictures_text_is_refused() -> None:
    text = chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(100 << 20)))
    with pytest.raises(InvalidInput, match="damaged"):
        image_of(png(5, 6, text, chunk(b"IDAT", zlib.compress(bytes(6 * 16)))))


def test_a_picture_of_more_scans_profiles_or_segments_than_any_has_is_refused() -> None:
    jpeg, profile = encoded(kind="JPEG", progressive=True), chunk(b"iCCP", b"a\0\0" + zlib.compress(b"a"))
    pixels = chunk(b"IDAT", zlib.compress(bytes(6 * 16)))
    scans, segment = jpeg.count(b"\xff\xda"), b"\xff\xe1\0\2"
    segments = len(re.findall(rb"\xff[\xe0-\xef\xfe]", jpeg))
    for most, right, wrong in (
        ("500 scans", jpeg + b"\xff\xda" * (500 - scans), jpeg + b"\xff\xda" * (501 - scans)),
        ("16 colour profiles", png(5, 6, *[profile] * 16, pixels), png(5, 6, *[profile] * 17, pixels)),
        (
            "16384 segments",
            *(jpeg[:2] + segment * (number - segments) + jpeg[2:] for number in (16_384, 16_385)),
        ),
    ):
        assert image_of(right).size == (5, 6)
        with pytest.raises(InvalidInput, match=f"more than {most}"):
            image_of(wrong)


def test_a_bmp_whose_skipped_rows_would_be_larger_than_it_is_refused() -> None:
    head = struct.pack("<IiiHHIIiiII", 40, 1_000_000, 1, 1, 8, 1, 4, 0, 0, 256, 0) + bytes(1024)
    skip = b"\0\2\xff\xff"
    with pytest.raises(InvalidInput, match="1000000 pixels wide, and 65535 is the most"):
        image_of(b"BM" + struct.pack("<IHHI", 14 + len(head) + 4, 0, 0, 14 + len(head)) + head + skip)


def test_limits_are_the_services_own() -> None:
    with pytest.raises(InvalidInput, match="5 x 6 pixels, and 29 in all is the most"):
        image_of(encoded(), limits=ServiceLimits(max_image_pixels=29))
    with pytest.raises(InvalidInput, match="bytes, and 10 is the most"):
        image_of(encoded(), limits=ServiceLimits(max_image_bytes=10))
    assert image_of(encoded(), limits=ServiceLimits(max_image_pixels=30)).size == (5, 6)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_damaged_pictures_are_refused_or_decoded(kind: str) -> None:
    whole, drawn = encoded(kind=kind), random.Random(7)
    decoded = 0
    with Service({}, handle=lambda request, _: request.image().size) as service:
        for _ in range(150):
            damaged = bytearray(whole[: drawn.randrange(len(whole) + 1)] if drawn.random() < 0.5 else whole)
            for _ in range(drawn.randrange(4)):
                if damaged:
                    damaged[drawn.randrange(len(damaged))] = drawn.randrange(256)
            try:
                service.call(bytes(damaged))
                decoded += 1
            except InvalidInput as error:
                assert "image" in str(error)
    assert decoded < 150


@pytest.mark.parametrize("data", [b"", b"not a picture", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"II*\x00"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="none of PNG, JPEG, WEBP, BMP, GIF, or is damaged"):
        image_of(data)


def test_other_formats_are_read_where_they_are_named() -> None:
    tiff = encoded(kind="TIFF")
    with pytest.raises(InvalidInput):
        image_of(tiff)
    assert image_of(tiff, formats=["TIFF"]).size == (5, 6)


def test_without_pillow_the_sentence_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ServiceError) as caught:
        image_of(b"")
    assert "pip install 'paddleinfer[image]'" in str(caught.value.__cause__)


def test_a_request_of_ones_own_has_pictures_too() -> None:
    assert Request(encoded()).image().size == (5, 6)
