"""Tells which Paddle wrote a program, if its file says so."""

from __future__ import annotations

import re

from paddleinfer.models.files import read_whole
from paddleinfer.models.pir import HEAD_SIZE
from paddleinfer.models.spec import ModelFormat, ModelSpec
from paddleinfer.models.wire import Message, WireError

__all__ = ["made_with"]

_PIR_VERSION = re.compile(rb'"version"\s*:\s*(\d+)')


def made_with(spec: ModelSpec) -> tuple[str | None, str]:
    """Returns the Paddle version or None, and a sentence about it."""
    if spec.program_path is None:
        return None, "a function has no file"
    if spec.format is ModelFormat.ONNX:
        return None, "an ONNX model does not say which Paddle it came from"
    data = read_whole(spec.program_path)
    if spec.format is ModelFormat.JSON:
        found = _PIR_VERSION.search(data[:HEAD_SIZE])
        layout = f" (version {found[1].decode()} of its format)" if found else ""
        return None, f"a .json program does not say which Paddle 3 wrote it{layout}"
    try:
        number = Message(data).message(4).integer(1, 0)
    except WireError:
        number = 0
    if number <= 0:
        return None, "the program does not say which Paddle wrote it"
    version = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    return version, f"Paddle {version}"
