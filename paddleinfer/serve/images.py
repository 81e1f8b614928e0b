"""Pictures by Pillow, with limits that hold before anything is decoded."""

from __future__ import annotations

import base64
import binascii
import io
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
        They are none, or it is larger than it may be.
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
    too_large = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(io.BytesIO(data), formats=tuple(formats)) as picture:  # reads no more than the head
            width, height = picture.size
            if width * height > max_pixels:
                raise _too_many(f"{width} x {height}", max_pixels)
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
