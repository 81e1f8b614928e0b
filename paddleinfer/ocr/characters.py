"""The characters that a ``rec`` model knows, from the files beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["characters_of"]

_MOST_BYTES: Final = 16 << 20
_CONFIG, _YAML = "config.json", "inference.yml"
_LISTS: Final = "*dict*.txt", "*keys*.txt"
_LISTED: Final = re.compile(r"^ *character_dict:\n((?: *- .*\n?)+)", re.MULTILINE)


def characters_of(model: Path, dictionary: Path | None = None) -> list[str]:
    """What its classes stand for, from class 1 on; the last is a blank between words.

    Parameters
    ----------
    model
        The model's directory, or a file in it. PaddleOCR's exports have ``inference.yml`` or ``config.json``
        there; older ones come with a list of their own, one character a line.
    dictionary
        Such a list, for a directory whose ``inference.yml`` and ``config.json`` name none.

    Raises
    ------
    ConfigError
        There is none.
    """
    directory = model if model.is_dir() else model.parent
    if (directory / _CONFIG).is_file():
        listed = _of_config(directory / _CONFIG)
        if listed:
            return [*listed, " "]
    if (directory / _YAML).is_file():
        found = _LISTED.search(_text_of(directory / _YAML))
        if found:
            return [*map(_scalar, found[1].rstrip("\n").split("\n")), " "]
    if dictionary is not None:
        return [*_lines_of(dictionary), " "]
    for pattern in _LISTS:
        for path in sorted(directory.glob(pattern)):
            return [*_lines_of(path), " "]
    raise ConfigError(
        f"{directory} does not say which characters the model reads: it needs {_YAML}, {_CONFIG} "
        "or a list in a file such as ppocr_keys_v1.txt; or give the list to Ocr(dictionary=…)"
    )


def _text_of(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ConfigError(f"{path} has more than {_MOST_BYTES} bytes, too many for a list of characters")
        return data.decode().replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the characters in {path} cannot be read: {error}") from None


def _lines_of(path: Path) -> list[str]:
    return _text_of(path).removesuffix("\n").split("\n")


def _of_config(path: Path) -> list[str]:
    try:
        document: Any = json.loads(_text_of(path))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    step = document.get("PostProcess") if isinstance(document, dict) else None
    listed = step.get("character_dict") if isinstance(step, dict) else None
    if listed is None:
        return []
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise ConfigError(f"character_dict in {path} must be a list of texts, not {shown(listed)}")
    return listed


def _scalar(line: str) -> str:
    """The text of a list's entry in YAML; blanks that are no spaces belong to it."""
    text = line.partition("- ")[2].strip(" ")
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        return str(json.loads(text))
    return text
