"""Command-line flags and environment variables, derived from the options' dataclasses."""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import textwrap
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final

from paddleinfer.config import BatchingOptions, EngineConfig, RuntimeOptions
from paddleinfer.errors import ConfigError
from paddleinfer.options.texts import NOTHING, described, form_of, gather_texts, is_textual, read_text
from paddleinfer.sentences import shown

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
# Between the texts of an option that has several, in a variable.
_SEPARATOR: Final = ";"


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

    @property
    def is_repeated(self) -> bool:
        """Each of its texts gives a part of the value."""
        return form_of(self.hint) is not None

    @property
    def spelled(self) -> str:
        """As on the command line, with underscores; what is repeated stands there in the singular."""
        return self.name.removesuffix("s") if self.is_repeated else self.name

    def read(self, texts: Sequence[str], spelled: str) -> Any:
        """The value that a text stands for, or several of an option that is repeated.

        Raises
        ------
        ConfigError
            It stands for none; the sentence names the option as it was spelled.
        """
        if self.is_repeated:
            return gather_texts(texts, self.hint, spelled)
        (text,) = texts
        value = read_text(text, self.hint)
        if value is NOTHING:
            raise ConfigError(f"{spelled} must be {described(self.hint)}, not {shown(text)}")
        return value


@functools.cache
def flags_of(options: type[Any]) -> list[Flag]:
    """The fields of a dataclass that text can give."""
    hints = typing.get_type_hints(options)
    docs = _docs(options)
    return [
        Flag(field.name, hints[field.name], _default_of(field), docs.get(field.name, ""))
        for field in fields(options)
        if is_textual(hints[field.name]) and field.metadata.get("is_option", True)
    ]


def _default_of(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def engine_flags() -> dict[str, list[Flag]]:
    """What the options of an engine are about -> the flags for them."""
    return {
        "how Paddle runs": flags_of(RuntimeOptions),
        "how requests are merged": flags_of(BatchingOptions),
        "further": flags_of(EngineConfig),
    }


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


class _Gathered(argparse.Action):
    """Takes an option as often as it is given."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        before = getattr(namespace, self.dest)
        texts = () if before is NOTHING else before[1]
        setattr(namespace, self.dest, (option_string, (*texts, values)))


def add_flags(parser: argparse.ArgumentParser, title: str, flags: Sequence[Flag]) -> None:
    """Adds them, each with dashes and with underscores."""
    group = parser.add_argument_group(title)
    for flag in flags:
        form = form_of(flag.hint)
        if not flag.is_switch:
            group.add_argument(
                *_spellings(flag.spelled),
                dest=flag.name,
                action=_Once if form is None else _Gathered,
                metavar=flag.name.rsplit("_", 1)[-1].upper() if form is None else form[0],
                help=_help(flag),
                default=NOTHING,
            )
            continue
        off = [*_spellings(f"no_{flag.name}"), *_spellings(_SWITCHED_OFF_BY.get(flag.name, ""))]
        turns_off = f"Turns {_spellings(flag.name)[0]} off."
        for spellings, value, text in ((_spellings(flag.name), True, _help(flag)), (off, False, turns_off)):
            group.add_argument(
                *spellings,
                dest=flag.name,
                action=_Once,
                nargs=0,
                const=value,
                help=text,
                default=NOTHING,
            )


def _spellings(name: str) -> list[str]:
    if not name:
        return []
    dashed = f"--{name.replace('_', '-')}"
    return [dashed] if "_" not in name else [dashed, f"--{name}"]


def _help(flag: Flag) -> str:
    form = form_of(flag.hint)
    how = "" if form is None else f" As {form[1]}; may be given several times."
    variable = ENVIRONMENT_PREFIX + flag.name.upper()
    text = f"{flag.doc}{how} (default: {_default_text(flag.default)}; {variable})"
    return text.replace("%", "%%")


def _default_text(default: Any) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, float):
        return f"{default:g}"
    if isinstance(default, tuple) and default:
        return ",".join(map(str, default))
    return "none" if default is None or default in ((), {}) else str(default)


def given_flags(namespace: argparse.Namespace, flags: Sequence[Flag]) -> dict[str, Any]:
    """Those that were given, as values. Raises ConfigError for a text that stands for none."""
    given: dict[str, Any] = {}
    for flag in flags:
        value = getattr(namespace, flag.name)
        if value is NOTHING:
            continue
        if flag.is_switch:
            given[flag.name] = value
        else:
            spelled, texts = value
            given[flag.name] = flag.read(texts if flag.is_repeated else (texts,), spelled)
    return given


# -- the environment


def from_environment(environment: Mapping[str, str], flags: Sequence[Flag]) -> dict[str, Any]:
    """Those that variables give: PADDLEINFER_MAX_BATCH_SIZE for ``max_batch_size``.

    What is repeated on the command line has semicolons between.
    """
    given: dict[str, Any] = {}
    for flag in flags:
        variable = ENVIRONMENT_PREFIX + flag.name.upper()
        text = environment.get(variable)
        # Kubernetes sets such variables itself for a service of this name: PADDLEINFER_PORT=tcp://10.0.0.1:9393.
        if text is not None and not text.startswith("tcp://"):
            texts = [text]
            if flag.is_repeated:
                texts = [part for part in text.split(_SEPARATOR) if part.strip()]
            if texts:
                given[flag.name] = flag.read(texts, variable)
    return given
