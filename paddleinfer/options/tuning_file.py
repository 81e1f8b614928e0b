"""Reads what ``paddleinfer tune`` wrote: the options that it chose, and where it measured them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from paddleinfer.config import EngineConfig
from paddleinfer.errors import ConfigError
from paddleinfer.options.toml_files import options_of_table, read_toml
from paddleinfer.sentences import shown

__all__ = ["TUNABLE", "TUNING_FILE_NAME", "TuningFile", "read_tuning_file"]

TUNING_FILE_NAME: Final = "paddleinfer.toml"
TUNABLE: Final = (
    *("backend", "ir_optim", "onednn", "instances", "cpu_threads", "eager_deletion", "mkl_amd"),
    *("max_batch_size", "pad"),
)
"""The options that such a file may give. None of them names a file."""

_TABLES: Final = ("options", "measured")
_TEXTS: Final = ("program", "processor", "date")


@dataclass(frozen=True)
class TuningFile:
    """What such a file says."""

    path: Path
    options: Mapping[str, Any]
    """Option -> value, as keywords of ``Engine`` take them."""
    program: str
    """The name of the model's file that it is for; empty if it does not say."""
    processor: str
    """The processor on which it was measured; empty if it does not say."""
    date: str
    """When it was measured; empty if it does not say."""
    versions: Mapping[str, str]
    """Package -> its version when it was measured."""


def read_tuning_file(path: Path) -> TuningFile:
    """Reads a file, and checks every option.

    Raises
    ------
    ConfigError
        It cannot be read, is damaged, or gives what cannot be tuned; the sentence says which.
    """
    tables = read_toml(path, "a file of paddleinfer tune")
    for name in tables:
        if name not in _TABLES:
            raise ConfigError(f"{path} has {shown(name)} at its top; its tables are [options] and [measured]")
    given, measured = (_table(path, tables, name) for name in _TABLES)
    for name in given:
        if name not in TUNABLE:
            raise ConfigError(
                f"[options] of {path} has {shown(name)}; the options there are {', '.join(TUNABLE)}"
            )
    if given.get("backend") == "auto":
        raise ConfigError(f'backend in [options] of {path} must name a runtime, and "auto" is none')
    try:
        options = options_of_table(f"[options] of {path}", given)
        EngineConfig.from_options(options)
    except ConfigError as error:
        raise ConfigError(f"[options] of {path} cannot be used: {error}") from None
    texts = {name: measured.get(name, "") for name in _TEXTS}
    versions = measured.get("versions", {})
    if not isinstance(versions, dict):
        raise ConfigError(f"versions in [measured] of {path} must be a table, not {shown(versions)}")
    for name, value in {**texts, **versions}.items():
        if not isinstance(value, str):
            raise ConfigError(f"{shown(name)} in [measured] of {path} must be a text, not {shown(value)}")
    return TuningFile(path, options, texts["program"], texts["processor"], texts["date"], versions)


def _table(path: Path, tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = tables.get(name)
    if not isinstance(table, dict):
        raise ConfigError(f"{path} has no table [{name}], so it is not a whole file of paddleinfer tune")
    return table
