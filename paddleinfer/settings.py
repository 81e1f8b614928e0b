"""A setting as it is in force: its value, who decided it, and what is worth knowing about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Setting", "Settings"]


@dataclass(frozen=True)
class Setting:
    """One line of ``effective_config()``."""

    value: Any
    source: str
    """ "default", "option", "auto", "paddle" or "model"."""
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        line = {"value": self.value, "source": self.source}
        return {**line, "note": self.note} if self.note else line


class Settings(dict[str, Setting]):
    """Setting name -> how it stands."""

    def put(self, name: str, value: Any, source: str, note: str = "") -> None:
        """Sets or replaces one line."""
        self[name] = Setting(value, source, note)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain data, for JSON."""
        return {name: setting.as_dict() for name, setting in self.items()}
