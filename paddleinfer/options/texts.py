"""What a text stands for, by the type of an option: a flag's value, a variable's, or a field of ``--pad``."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Final, Literal

from paddleinfer.config import PadAxis
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = [
    "NOTHING",
    "alternatives",
    "described",
    "form_of",
    "gather_texts",
    "is_textual",
    "pad_axis_of",
    "read_text",
]

_WORDS: Final = {
    "true": True,
    "false": False,
    "yes": True,
    "no": False,
    "on": True,
    "off": False,
    "1": True,
    "0": False,
}
_NAMES: Final = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    type(None): "none",
}
_PAD_EXAMPLE: Final = "inputs=ids:1 outputs=tokens:1 multiple=16 mask=mask"


class _Nothing:
    def __repr__(self) -> str:
        return "NOTHING"


NOTHING: Final = _Nothing()
"""A text does not stand for a value of the type."""


def is_textual(hint: Any) -> bool:
    """Whether text can stand for values of this type."""
    origin = typing.get_origin(hint)
    if hint in _NAMES or hint is PadAxis or origin is Literal:
        return True
    return origin is not None and all(
        is_textual(argument) for argument in typing.get_args(hint) if argument is not Ellipsis
    )


def form_of(hint: Any) -> tuple[str, str] | None:
    """Of an option that may have several texts: the name for one, and an example; None for others."""
    for kind in alternatives(hint):
        if _is_mapping(kind):
            return "INPUT=SIZES", "x=3,640,640"
        if typing.get_origin(kind) is tuple and PadAxis in typing.get_args(kind):
            return "FIELDS", f'"{_PAD_EXAMPLE}"'
    return None


def alternatives(hint: Any) -> Sequence[Any]:
    """The types of a union, the one that any text is of last."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = typing.get_args(hint)
        return sorted(kinds, key=lambda kind: kind is str)
    return (hint,)


def _is_mapping(kind: Any) -> bool:
    origin = typing.get_origin(kind)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def read_text(text: str, hint: Any, pairs: str = "=") -> Any:
    """The value of this type, or NOTHING. `pairs` is what stands between a name and its value."""
    for kind in alternatives(hint):
        value = _read_as(text, kind, pairs)
        if value is not NOTHING:
            return value
    return NOTHING


def _read_as(text: str, kind: Any, pairs: str) -> Any:
    origin = typing.get_origin(kind)
    if origin is Literal:
        return text if text in typing.get_args(kind) else NOTHING
    if origin is tuple:
        return _read_list(text, typing.get_args(kind)[0])
    if _is_mapping(kind):
        return _read_pair(text, typing.get_args(kind)[1], pairs)
    if kind is type(None):
        return None if text.lower() == "none" else NOTHING
    if kind is bool:
        return _WORDS.get(text.lower(), NOTHING)
    if kind is PadAxis:
        return _read_pad(text)
    try:
        return kind(text)
    except ValueError:
        return NOTHING


def _read_list(text: str, kind: Any) -> Any:
    if kind is str and "," not in text:
        return NOTHING
    if kind is PadAxis:
        return (_read_pad(text),)
    parts = [read_text(part.strip(), kind) for part in text.split(",")] if text else []
    return NOTHING if NOTHING in parts else tuple(parts)


def _read_pair(text: str, kind: Any, pairs: str) -> Any:
    name, found, rest = text.strip().rpartition(pairs)
    value = read_text(rest.strip(), kind) if found and name else NOTHING
    return NOTHING if value is NOTHING else {name: value}


def gather_texts(texts: Sequence[str], hint: Any, spelled: str) -> Any:
    """The value that several texts stand for, each with a part of it.

    Raises
    ------
    ConfigError
        One stands for none; the sentence names the option as it was spelled.
    """
    gathered: Any = None
    for text in texts:
        part = read_text(text, hint)
        if part is NOTHING:
            raise ConfigError(f"{spelled} must be {described(hint)}, not {shown(text)}")
        if isinstance(part, Mapping) and isinstance(gathered, Mapping):
            for name in part:
                if name in gathered:
                    raise ConfigError(f"{spelled} is given twice for {shown(name)}")
            gathered = {**gathered, **part}
        elif isinstance(part, tuple) and isinstance(gathered, tuple):
            gathered += part
        elif gathered is not None:
            raise ConfigError(f"{spelled} cannot be {shown(text)} beside other values")
        else:
            gathered = part
    return gathered


def described(hint: Any) -> str:
    """What a text must be, for a sentence."""
    return " or ".join(_described(kind) for kind in alternatives(hint))


def _described(kind: Any) -> str:
    form = form_of(kind)
    if form is not None:
        return f"{form[0]}, such as {form[1]}"
    if typing.get_origin(kind) is Literal:
        return " or ".join(str(value) for value in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return "a list with commas"
    return _NAMES[kind]


# -- PadAxis


def _read_pad(text: str) -> PadAxis:
    """Fields with spaces between them; mappings as ``name:value`` with commas."""
    hints = typing.get_type_hints(PadAxis)
    given: dict[str, Any] = {}
    for part in text.split():
        name, found, value = part.partition("=")
        if not found:
            raise ConfigError(
                f"pad is made of NAME=VALUE, as in {shown(_PAD_EXAMPLE)}, and {shown(part)} is not"
            )
        if name in given:
            raise ConfigError(f"pad has {name} twice")
        given[name] = value
    _check_pad_fields(given, "pad")
    return PadAxis(**{name: _read_pad_field(name, value, hints[name]) for name, value in given.items()})


def _read_pad_field(name: str, text: str, hint: Any) -> Any:
    if not any(_is_mapping(kind) for kind in alternatives(hint)):
        value = read_text(text, hint)
        if value is not NOTHING:
            return value
        raise ConfigError(f"{name} of pad must be {described(hint)}, not {shown(text)}")
    pairs: dict[str, Any] = {}
    for part in text.split(","):
        pair = read_text(part, hint, pairs=":")
        if pair is NOTHING:
            raise ConfigError(
                f"{name} of pad must be NAME:VALUE with commas between, and {shown(part)} is not"
            )
        pairs.update(pair)
    return pairs


def pad_axis_of(table: object, where: str) -> PadAxis:
    """The PadAxis of a table of its fields.

    Raises
    ------
    ConfigError
        It is none; the sentence says where.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(
            f"{where} must be a table of PadAxis' fields, or a list of such, not {shown(table)}"
        )
    _check_pad_fields(table, where)
    return PadAxis(**table)


def _check_pad_fields(given: Mapping[str, Any], where: str) -> None:
    known = {field.name: field for field in fields(PadAxis)}
    for name in given:
        if name not in known:
            raise ConfigError(f"{where} has {shown(name)}; the fields of PadAxis are {', '.join(known)}")
    for name, field in known.items():
        if field.default is MISSING and field.default_factory is MISSING and name not in given:
            raise ConfigError(f"{where} needs {name}, as in {shown(_PAD_EXAMPLE)}")
