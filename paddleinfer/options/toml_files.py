"""Reads TOML files of bounded size, and turns their tables into options."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddleinfer.errors import ConfigError
from paddleinfer.options.texts import pad_axis_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["options_of_table", "read_toml"]

# A hundred models with ten options each take a tenth of this.
_MOST_BYTES = 1 << 18
# The parser's time grows with the square of a key's parts.
_MOST_DOTS = 256


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Reads the tables of a file; `what` says in sentences what kind of file it is.

    Raises
    ------
    ConfigError
        It cannot be read, is too large, or is not TOML.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ConfigError(f"{path} has more than the {_MOST_BYTES} bytes that {what} may have")
        if any(line.count(b".") > _MOST_DOTS for line in data.splitlines()):
            raise ConfigError(f"{path} has a line with more than {_MOST_DOTS} dots")
        tables: dict[str, Any] = tomllib.loads(data.decode())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path} nests too deep") from None
    return tables


def options_of_table(where: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Turns lists into tuples, and ``pad``'s tables into PadAxis; `where` says what table it is."""
    options = {name: _frozen(value) for name, value in table.items()}
    if "pad" in options:
        pads = options["pad"] if isinstance(options["pad"], tuple) else (options["pad"],)
        options["pad"] = tuple(pad_axis_of(pad, f"pad in {where}") for pad in pads)
    return options


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return {name: _frozen(part) for name, part in value.items()}
    return value
