"""Pictures by Pillow, with limits that hold before anything is decoded."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from paddleinfer.errors import InvalidInput
from paddleinfer.sentences import listed, shown
from paddleinfer.serve.upload import Upload

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["IMAGE_FORMATS", "decode_image", "image_bytes"]

IMAGE_FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
"""Those of Pillow's that are read: no readers of documents, scripts or cameras' own formats."""

_METADATA: Final = re.compile(rb"\xff[\xe0-\xef\xfe]")

_REPEATED: Final = (
    (b"\xff\xd8", lambda data: data.count(b"\xff\xda"), 500, "scans"),
    (b"\xff\xd8", lambda data: sum(1 for _ in _METADATA.finditer(data)), 1 << 14, "segments of metadata"),
    (b"\x89PNG", lambda data: data.count(b"iCCP"), 16, "colour profiles"),
)
"""Of a JPEG and of a PNG: how it begins, what counts its parts of a kind, and how many of these it may have.

A scan of 55 bytes has a decoder go through all pixels, a profile of 1 KiB is inflated to 1 MiB, and a segment
of 4 bytes takes 130. Pictures have about ten scans, and one profile; other bytes that look like marks count,
too, and 16 MiB of them have 256 scans and 4352 segments by chance.
"""

# Four bytes of such a picture skip up to 255 rows; older versions of Pillow make them all, past its end.
_WIDEST_BY_RUNS: Final = 65_535


def decode_image(
    data: bytes,
    mode: str,
    max_bytes: int,
    max_pixels: int,
    formats: Sequence[str] = IMAGE_FORMATS,
) -> Image:
    """The picture that these bytes are, upright, in a mode of Pillow's; of several frames the first.

    Raises
    ------
    InvalidInput
        They are none, it is larger than it may be, or it has more parts than any picture needs.
    ImportError
        Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as error:
        raise ImportError(
            f"images need Pillow, which pip install 'paddleinfer[image]' brings: {error}"
        ) from error

    if len(data) > max_bytes:
        raise InvalidInput(f"the image has {len(data)} bytes, and {max_bytes} is the most (max_image_bytes)")
    _check_repeated(data)
    too_large = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(io.BytesIO(data), formats=tuple(formats)) as picture:  # reads no more than the head
            width, height = picture.size
            if width * height > max_pixels:
                raise _too_many(f"{width} x {height}", max_pixels)
            if width > _WIDEST_BY_RUNS and any(tile[0] == "bmp_rle" for tile in picture.tile):
                raise InvalidInput(
                    f"the compressed BMP image is {width} pixels wide, and {_WIDEST_BY_RUNS} is the most"
                )
            upright = ImageOps.exif_transpose(picture)
            decoded = upright if upright.mode == mode else upright.convert(mode)
            decoded.load()
            return decoded
    except (InvalidInput, MemoryError):
        raise
    except too_large:
        raise _too_many("too many", max_pixels) from None
    except UnidentifiedImageError:
        raise InvalidInput(f"the image is none of {listed(formats)}, or is damaged") from None
    except Exception as error:  # what a decoder finds wrong with such bytes may be of any class
        raise InvalidInput(f"the image is damaged: {error}") from None


def _check_repeated(data: bytes) -> None:
    for begin, count, most, parts in _REPEATED:
        if data.startswith(begin) and count(data) > most:
            raise InvalidInput(f"the image has more than {most} {parts}, and {most} is the most")


def _too_many(size: str, max_pixels: int) -> InvalidInput:
    return InvalidInput(
        f"the image has {size} pixels, and {max_pixels} in all is the most (max_image_pixels)"
    )


def _is_one(value: Any) -> bool:
    """Whether it is a tensor of BYTES with one element."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "O" and value.size == 1


def image_bytes(value: Any, name: str | None) -> bytes:
    """The bytes of a picture in a request's value: the value, or what has this name in a form or in JSON.

    Raises
    ------
    InvalidInput
        There is none, or there are several and no name says which.
    """
    if isinstance(value, dict):
        if name is None:
            files = [part for part in value.values() if isinstance(part, (Upload, bytes)) or _is_one(part)]
            if len(files) != 1:
                raise InvalidInput(f"the request must have one image, and has {len(files)} files")
            value = files[0]
        elif name in value:
            value = value[name]
        else:
            raise InvalidInput(f"the request has no image {shown(name)}; it has {listed(value)}")
    elif name is not None:
        raise InvalidInput(f"the request must be a form, or JSON, with the image {shown(name)}")
    if isinstance(value, Upload):
        return value.body
    if isinstance(value, str) and name is not None:
        return _of_base64(value)
    if _is_one(value):
        value = value.item()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise InvalidInput(
        "an image is sent as the body, as a file of a form (multipart/form-data), or as base64 in JSON, "
        f"not as {type(value).__name__}"
    )


def _of_base64(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(
            f"an image that is sent as text must be in base64, which {shown(text)} is not"
        ) from None
