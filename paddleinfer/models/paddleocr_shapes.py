"""Reads PaddleOCR's ``inference.yml`` for the least, the usual and the largest sizes of a model's inputs.

Only the small part of YAML that such files use is understood, and only the sizes are read; any other file
names no sizes. No file can make the reader do more than one pass over its lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from paddleinfer.errors import ModelLoadError
from paddleinfer.models.files import is_file, opened

__all__ = ["FILE_NAME", "NamedSizes", "read_sizes"]

FILE_NAME: Final = "inference.yml"

_PLACES = (
    ("backend_configs", "paddle_infer", "trt_dynamic_shapes"),
    ("backend_configs", "tensorrt", "dynamic_shapes"),
)
_MOST_BYTES = 1 << 20
_MOST_LINES = 4096
_LONGEST_LINE = 4096
_DEEPEST = 24
_MOST_DIMENSIONS = 16
_MOST_SIZE = 2**31 - 1
_KEY = re.compile(r"(?P<key>[^\s#\[\]{}&*!|>'\"%@`,-][^:#]*|'[^']*'|\"[^\"]*\"):(?:\s(?P<value>.*))?")
_ANCHOR = re.compile(r"&(\S+)\s*")


@dataclass(frozen=True)
class NamedSizes:
    """The shapes of one input, their rows included."""

    least: tuple[int, ...]
    usual: tuple[int, ...]
    largest: tuple[int, ...]


class _OtherYamlError(ValueError):
    """The lines use YAML that is not understood here."""


def read_sizes(path: Path) -> dict[str, NamedSizes]:
    """Returns input -> its sizes; empty if the file is missing or names none in a known form."""
    try:
        if not is_file(path):
            return {}
        with opened(path) as file:
            data = file.read(_MOST_BYTES)
        document = _Reader(_section(data.decode("utf-8", "replace"), "Hpi")).read()
    except (OSError, ModelLoadError, _OtherYamlError):
        return {}
    for place in _PLACES:
        found: Any = document
        for key in place:
            found = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping):
            sizes = {name: _sizes(value) for name, value in found.items()}
            return {name: value for name, value in sizes.items() if value is not None}
    return {}


def _sizes(value: Any) -> NamedSizes | None:
    if not isinstance(value, list) or len(value) != 3:
        return None
    # An alias costs its writer nothing, but copying what it stands for could cost its reader much.
    fit = all(isinstance(shape, list) and len(shape) <= _MOST_DIMENSIONS for shape in value)
    if not fit:
        return None
    shapes = [tuple(shape) for shape in value]
    fit = all(isinstance(size, int) and 1 <= size <= _MOST_SIZE for shape in shapes for size in shape)
    if not fit or not shapes[0] or len({len(shape) for shape in shapes}) != 1:
        return None
    return NamedSizes(*shapes)


def _section(text: str, name: str) -> list[tuple[int, str]]:
    """Returns indent and text of the lines below a key of the outermost mapping."""
    lines: list[tuple[int, str]] = []
    inside = False
    for line in text.splitlines():
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip(" "))
        if indent == 0 and not content.startswith("-"):
            if inside:
                break
            inside = content == f"{name}:"
        elif inside:
            lines.append((indent, content))
            if len(lines) > _MOST_LINES or len(content) > _LONGEST_LINE:
                raise _OtherYamlError
    return lines


class _Reader:
    """Reads mappings and lists by indentation, integers, anchors and aliases."""

    def __init__(self, lines: list[tuple[int, str]]) -> None:
        self._lines = lines
        self._next = 0
        self._anchors: dict[str, Any] = {}

    def read(self) -> Any:
        """Returns what the lines hold; None if there are no lines."""
        return self._block(0) if self._lines else None

    def _block(self, depth: int) -> Any:
        """Reads the mapping, list or scalar that begins at the next line."""
        if depth > _DEEPEST:
            raise _OtherYamlError
        indent, text = self._lines[self._next]
        if text == "-" or text.startswith("- "):
            return self._list(indent, depth)
        if _KEY.fullmatch(text):
            return self._mapping(indent, depth)
        self._next += 1
        return self._scalar(text)

    def _at(self, indent: int) -> str | None:
        """Returns the next line's text, if it belongs to this block."""
        if self._next >= len(self._lines) or self._lines[self._next][0] < indent:
            return None
        found, text = self._lines[self._next]
        if found > indent:
            raise _OtherYamlError
        return text

    def _list(self, indent: int, depth: int) -> list[Any]:
        items: list[Any] = []
        while (text := self._at(indent)) is not None and (text == "-" or text.startswith("- ")):
            rest = text[1:].lstrip()
            if rest:  # the text after the dash keeps its column
                self._lines[self._next] = (indent + len(text) - len(rest), rest)
                items.append(self._block(depth + 1))
            else:
                self._next += 1
                items.append(self._below(indent, depth, lists_too=False))
        return items

    def _mapping(self, indent: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while (text := self._at(indent)) is not None:
            match = _KEY.fullmatch(text)
            if match is None:
                break
            value = (match["value"] or "").strip()
            anchor = _ANCHOR.match(value)
            if anchor is not None:
                value = value[anchor.end() :]
            self._next += 1
            held = self._scalar(value) if value else self._below(indent, depth, lists_too=True)
            if anchor is not None:
                self._anchors[anchor[1]] = held
            found[match["key"].strip("'\"")] = held
        return found

    def _below(self, indent: int, depth: int, lists_too: bool) -> Any:
        """Reads the block below a key or a dash; a list may be indented as little as its key."""
        if self._next >= len(self._lines):
            return None
        found, text = self._lines[self._next]
        if found > indent or (lists_too and found == indent and (text == "-" or text.startswith("- "))):
            return self._block(depth + 1)
        return None

    def _scalar(self, text: str) -> Any:
        if text.startswith("*"):
            return self._anchors.get(text[1:])
        if text.startswith("[") and text.endswith("]"):
            return [self._scalar(part.strip()) for part in text[1:-1].split(",")]
        return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else text
