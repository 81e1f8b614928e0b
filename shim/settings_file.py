"""Reads a server's TOML file: its own options, options of all models, and the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddleinfer.errors import ConfigError
from paddleinfer.options.toml_files import options_of_table, read_toml
from paddleinfer.sentences import shown

from .service.served_models import check_weight

__all__ = ["ModelTable", "SettingsFile", "read_settings"]

# Of a model's table: where it is, and how it is served.
_OF_SERVING = ("path", "version_policy", "weight", "variants", "pinned")


@dataclass(frozen=True)
class ModelTable:
    """``[models.NAME]``, or one of its variants, ``[[models.NAME.variants]]``."""

    path: Path
    options: Mapping[str, Any]
    version_policy: str | None = None
    """None: the server's."""
    weight: int | None = None
    """Of a variant; None: it is none."""
    pinned: bool = False
    """Whether it is never unloaded to make room for others."""


@dataclass(frozen=True)
class SettingsFile:
    """The contents of a settings file."""

    server: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Sequence[ModelTable]] = field(default_factory=dict)
    """Name -> the model, or its variants."""
    services: Mapping[str, str] = field(default_factory=dict)
    """Name of a service -> its place, ``module:Name``."""


def read_settings(path: Path) -> SettingsFile:
    """Reads ``[server]``, ``[engine]``, ``[models.NAME]``, ``[services]``; paths are relative to the file.

    Raises
    ------
    ConfigError
        It cannot be read, is not TOML, or has another table.
    """
    tables = read_toml(path, "a --config file")
    known = ("server", "engine", "models", "services")
    for name, table in tables.items():
        if name not in known or not isinstance(table, dict):
            raise ConfigError(
                f"{path} has {name!r} at its top; "
                "the tables are [server], [engine], [models.NAME], [services]"
            )
    models = {name: _model(path, name, table) for name, table in tables.get("models", {}).items()}
    services = tables.get("services", {})
    for name, place in services.items():
        if not isinstance(place, str):
            raise ConfigError(
                f'{name} in [services] of {path} must be a text, "module:Name", not {shown(place)}'
            )
    return SettingsFile(
        tables.get("server", {}),
        options_of_table(f"[engine] of {path}", tables.get("engine", {})),
        models,
        services,
    )


def _model(file: Path, name: str, table: Any) -> list[ModelTable]:
    where = f"[models.{name}] of {file}"
    if isinstance(table, dict) and "variants" in table:
        return _variants(file, name, table)
    if not isinstance(table, dict) or not isinstance(table.get("path"), str):
        raise ConfigError(f'{where} needs path = "…", the model\'s directory, or variants')
    if "weight" in table:
        raise ConfigError(
            f"weight in {where} is of a variant, which is a table of its own: [[models.{name}.variants]]"
        )
    return [_table(file, where, table)]


def _variants(file: Path, name: str, table: Mapping[str, Any]) -> list[ModelTable]:
    """Reads the tables of variants, which take over the options that stand beside them."""
    where = f"[models.{name}] of {file}"
    for key in ("path", "version_policy", "weight"):
        if key in table:
            raise ConfigError(f"{key} in {where} cannot stand beside variants; each of these is one model")
    variants = table["variants"]
    if not isinstance(variants, list) or not variants or not all(isinstance(one, dict) for one in variants):
        raise ConfigError(
            f"variants in {where} must be tables, [[models.{name}.variants]] with a path and a weight each, "
            f"not {shown(variants)}"
        )
    shared = {option: value for option, value in table.items() if option != "variants"}
    tables = []
    for number, variant in enumerate(variants, 1):
        one = f"variant {number} in {where}"
        for key in ("version_policy", "variants"):
            if key in variant:
                raise ConfigError(f"{key} in {one} has no meaning there: a variant is one model")
        if not isinstance(variant.get("path"), str):
            raise ConfigError(f'{one} needs path = "…", the model\'s directory')
        check_weight(one, variant.get("weight"))
        tables.append(_table(file, one, {**shared, **variant}))
    return tables


def _table(file: Path, where: str, table: Mapping[str, Any]) -> ModelTable:
    options = {option: value for option, value in table.items() if option not in _OF_SERVING}
    pinned = table.get("pinned", False)
    if not isinstance(pinned, bool):
        raise ConfigError(f"pinned in {where} must be true or false, not {shown(pinned)}")
    return ModelTable(
        file.parent / table["path"],
        options_of_table(where, options),
        table.get("version_policy"),
        table.get("weight"),
        pinned,
    )
