"""Command-line flags and environment variables, derived from the options' dataclasses."""

from __future__ import annotations

import argparse
import ast
import inspect
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from paddleinfer.config import BatchingOptions, EngineConfig, PadAxis, RuntimeOptions
from paddleinfer.errors import ConfigError

__all__ = [
    "ENVIRONMENT_PREFIX",
    "Flag",
    "add_flags",
    "engine_flags",
    "flags_of",
    "from_environment",
    "given_flags",
]

ENVIRONMENT_PREFIX: Final = "PADDLEINFER_"

# As Paddle Serving spells them, where that is another word.
_SWITCHED_OFF_BY = {"mem_optim": "mem_optim_off"}
_WORDS = {
    "true": True,
    "false": False,
    "yes": True,
    "no": False,
    "on": True,
    "off": False,
    "1": True,
    "0": False,
}


@dataclass(frozen=True)
class Flag:
    """One option of a dataclass."""

    name: str
    hint: Any
    default: Any
    doc: str

    @property
    def is_switch(self) -> bool:
        """True or False, and nothing else."""
        return self.hint is bool

    def read(self, text: str, spelled: str) -> Any:
        """The value that a text stands for.

        Raises
        ------
        ConfigError
            It stands for none; the sentence names the option as it was spelled.
        """
        for hint in _alternatives(self.hint):
            value = _read_as(text, hint)
            if value is not _NOTHING:
                return value
        raise ConfigError(f"{spelled} must be {_described(self.hint)}, not {text!r}")


class _Nothing:
    pass


_NOTHING = _Nothing()


def flags_of(options: type[Any]) -> list[Flag]:
    """The fields of a dataclass that a line of text can give."""
    hints = typing.get_type_hints(options)
    docs = _docs(options)
    return [
        Flag(field.name, hints[field.name], field.default, docs.get(field.name, ""))
        for field in fields(options)
        if _is_textual(hints[field.name])
    ]


def engine_flags() -> dict[str, list[Flag]]:
    """What the options of an engine are about -> the flags for them."""
    return {
        "how Paddle runs": flags_of(RuntimeOptions),
        "how requests are merged": flags_of(BatchingOptions),
        "further": flags_of(EngineConfig),
    }


def _is_textual(hint: Any) -> bool:
    return all(one is not PadAxis and not hasattr(one, "__dataclass_fields__") for one in _leaves(hint))


def _leaves(hint: Any) -> list[Any]:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Literal or not arguments:
        return [hint]
    return [leaf for argument in arguments for leaf in _leaves(argument)]


def _docs(options: type[Any]) -> dict[str, str]:
    """Field -> the string that stands below it."""
    body = ast.parse(textwrap.dedent(inspect.getsource(options))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(text, ast.Expr)
            and isinstance(field.target, ast.Name)
        ):
            docs[field.target.id] = ast.literal_eval(text.value).strip().replace("``", "")
    return docs


def _alternatives(hint: Any) -> Sequence[Any]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = typing.get_args(hint)
        return sorted(kinds, key=lambda kind: kind is str)  # any text is a str
    return (hint,)


def _read_as(text: str, hint: Any) -> Any:
    if typing.get_origin(hint) is Literal:
        return text if text in typing.get_args(hint) else _NOTHING
    if typing.get_origin(hint) is tuple:
        return _read_list(text, typing.get_args(hint)[0])
    if hint is type(None):
        return None if text.lower() == "none" else _NOTHING
    if hint is bool:
        return _WORDS.get(text.lower(), _NOTHING)
    try:
        return hint(text)
    except ValueError:
        return _NOTHING


def _read_list(text: str, kind: Any) -> Any:
    if kind is str and "," not in text:
        return _NOTHING
    parts = [_read_as(part.strip(), kind) for part in text.split(",")] if text else []
    return _NOTHING if _NOTHING in parts else tuple(parts)


def _described(hint: Any) -> str:
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a text", type(None): "none"}
    return " or ".join(_described_one(one, names) for one in _alternatives(hint))


def _described_one(hint: Any, names: Mapping[Any, str]) -> str:
    if typing.get_origin(hint) is Literal:
        return " or ".join(str(value) for value in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return "a list with commas"
    return names[hint]


# -- the command line


class _Once(argparse.Action):
    """Takes an option once, however it is spelled."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        spelled = vars(namespace).setdefault("_spelled", {})
        if self.dest in spelled:
            both = f"{spelled[self.dest]} and {option_string}"
            twice = spelled[self.dest] == option_string
            parser.error(
                f"{option_string} is given twice"
                if twice
                else f"{both} are one option; give one of them, once"
            )
        spelled[self.dest] = option_string
        setattr(namespace, self.dest, self.const if self.nargs == 0 else (option_string, values))


def add_flags(parser: argparse.ArgumentParser, title: str, flags: Sequence[Flag]) -> None:
    """Adds them, each with dashes and with underscores."""
    group = parser.add_argument_group(title)
    for flag in flags:
        text = _help(flag)
        if not flag.is_switch:
            metavar = flag.name.rsplit("_", 1)[-1].upper()
            group.add_argument(
                *_spellings(flag.name),
                dest=flag.name,
                action=_Once,
                metavar=metavar,
                help=text,
                default=_NOTHING,
            )
            continue
        off = [*_spellings(f"no_{flag.name}"), *_spellings(_SWITCHED_OFF_BY.get(flag.name, ""))]
        for spellings, value in ((_spellings(flag.name), True), (off, False)):
            group.add_argument(
                *spellings,
                dest=flag.name,
                action=_Once,
                nargs=0,
                const=value,
                help=text if value is not flag.default else argparse.SUPPRESS,
                default=_NOTHING,
            )


def _spellings(name: str) -> list[str]:
    if not name:
        return []
    dashed = f"--{name.replace('_', '-')}"
    return [dashed] if "_" not in name else [dashed, f"--{name}"]


def _help(flag: Flag) -> str:
    default = {None: "none", True: "on", False: "off", (): "none"}.get(flag.default, flag.default)
    text = f"{flag.doc} (default: {default}; {ENVIRONMENT_PREFIX}{flag.name.upper()})"
    return text.replace("%", "%%")


def given_flags(namespace: argparse.Namespace, flags: Sequence[Flag]) -> dict[str, Any]:
    """Those that were given, as values. Raises ConfigError for a text that stands for none."""
    given: dict[str, Any] = {}
    for flag in flags:
        value = getattr(namespace, flag.name)
        if value is _NOTHING:
            continue
        given[flag.name] = value if flag.is_switch else flag.read(value[1], value[0])
    return given


# -- the environment


def from_environment(environment: Mapping[str, str], flags: Sequence[Flag]) -> dict[str, Any]:
    """Those that variables give: PADDLEINFER_MAX_BATCH_SIZE for ``max_batch_size``."""
    given: dict[str, Any] = {}
    for flag in flags:
        variable = ENVIRONMENT_PREFIX + flag.name.upper()
        text = environment.get(variable)
        # Kubernetes sets such variables itself for a service of this name: PADDLEINFER_PORT=tcp://10.0.0.1:9393.
        if text is not None and not text.startswith("tcp://"):
            given[flag.name] = flag.read(text, variable)
    return given
