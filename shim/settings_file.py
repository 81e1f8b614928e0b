"""A server's TOML file: its own options, options of all models, and the models."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddleinfer.config import PadAxis
from paddleinfer.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["ModelTable", "SettingsFile", "read_settings"]


@dataclass(frozen=True)
class ModelTable:
    """``[models.NAME]``."""

    path: Path
    options: Mapping[str, Any]


@dataclass(frozen=True)
class SettingsFile:
    """What a file says."""

    server: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, ModelTable] = field(default_factory=dict)


def read_settings(path: Path) -> SettingsFile:
    """Reads ``[server]``, ``[engine]`` and ``[models.NAME]``; a model's path is relative to the file.

    Raises
    ------
    ConfigError
        It cannot be read, is no TOML, or has another table.
    """
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    known = ("server", "engine", "models")
    for name, table in tables.items():
        if name not in known or not isinstance(table, dict):
            raise ConfigError(
                f"{path} has {name!r} at its top; the tables are [server], [engine], [models.NAME]"
            )
    models = {name: _model(path, name, table) for name, table in tables.get("models", {}).items()}
    return SettingsFile(tables.get("server", {}), _options(path, tables.get("engine", {})), models)


def _model(file: Path, name: str, table: Any) -> ModelTable:
    if not isinstance(table, dict) or not isinstance(table.get("path"), str):
        raise ConfigError(f'[models.{name}] of {file} needs path = "…", the model\'s directory')
    options = {option: value for option, value in table.items() if option != "path"}
    return ModelTable(file.parent / table["path"], _options(file, options))


def _options(file: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Lists are tuples, and ``pad`` is made of its tables."""
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in table.items()}
    if "pad" in options:
        try:
            pads = options["pad"] if isinstance(options["pad"], tuple) else (options["pad"],)
            options["pad"] = tuple(PadAxis(**pad) for pad in pads)
        except TypeError as error:
            raise ConfigError(f"pad in {file} must be tables of PadAxis' fields: {error}") from None
    return options
