"""Versions of a model: directories with numbers, and which of them are served."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paddleinfer.errors import ConfigError, ModelLoadError
from paddleinfer.models.reader import is_model
from paddleinfer.sentences import listed, shown

__all__ = ["VersionPolicy", "version_directories"]

# As Triton has it: other names, and numbers that begin with a zero, are no versions.
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")
_LATEST: Final = re.compile(r"latest(?::([1-9][0-9]{0,8}))?")


@dataclass(frozen=True)
class VersionPolicy:
    """Which versions of a model are served: the latest ones, those that are named, or all."""

    latest: int | None = 1
    """How many of the highest; None: as many as there are."""
    named: tuple[int, ...] = ()
    """These and no others, whatever `latest` says; empty: it says."""

    @classmethod
    def of(cls, text: object) -> VersionPolicy:
        """The policy that ``latest``, ``latest:2``, ``all`` or ``1,3`` stands for.

        Raises
        ------
        ConfigError
            It is none of these.
        """
        if isinstance(text, str):
            latest = _LATEST.fullmatch(text)
            if latest is not None:
                return cls(int(latest[1] or 1))
            if text == "all":
                return cls(None)
            numbers = [part.strip() for part in text.split(",")]
            if all(map(_NUMBER.fullmatch, numbers)):
                return cls(None, tuple(sorted({int(number) for number in numbers})))
        raise ConfigError(
            f'version_policy must be "latest", "latest:2", "all", or numbers such as "1,3", not {shown(text)}'
        )

    def chosen(self, path: Path) -> dict[int, Path]:
        """The versions of this model that are served, the lowest first; empty where it has no versions.

        Raises
        ------
        ModelLoadError
            One that is named is not there.
        """
        found = version_directories(path)
        if not found:
            return {}
        missing = [number for number in self.named if number not in found]
        if missing:
            raise ModelLoadError(
                f"{path} has no version {missing[0]}; it has {listed([str(number) for number in found])}"
            )
        numbers = self.named or list(found)[-self.latest if self.latest is not None else 0 :]
        return {number: found[number] for number in numbers}


def version_directories(path: Path) -> Mapping[int, Path]:
    """Version -> its directory, the lowest first. Empty where the path is a model itself, or is not there."""
    try:
        numbers = sorted(
            int(child.name) for child in path.iterdir() if _NUMBER.fullmatch(child.name) and child.is_dir()
        )
    except OSError:
        return {}
    if not numbers or is_model(path):
        return {}
    return {number: path / str(number) for number in numbers}
