"""Which PaddleX there is, and whether its registry of engines is one that is known."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from typing import Any, Final

from paddleinfer.errors import PaddleInferError
from paddleinfer.sentences import listed, shown

__all__ = ["KNOWN_VERSIONS", "check_version", "part"]

KNOWN_VERSIONS: Final = ("3.5", "3.6", "3.7")
"""Versions of PaddleX, and of PaddleOCR with them, that the tests were run with."""

_log = logging.getLogger("paddleinfer")


def check_version() -> None:
    """Checks the version of PaddleX.

    Raises
    ------
    ImportError
        PaddleX is not installed.
    PaddleInferError
        It is older than the first known version, which had no registry of engines. A newer one than the last
        is logged, and tried.
    """
    try:
        version = importlib.metadata.version("paddlex")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(
            "paddleinfer.paddlex needs PaddleX, which is not installed: pip install 'paddleinfer[paddlex]'"
        ) from None
    known = f"the known versions are {listed(KNOWN_VERSIONS)}"
    release = ".".join(version.split(".")[:2])
    if release in KNOWN_VERSIONS:
        return
    if _numbers(release) < _numbers(KNOWN_VERSIONS[0]):
        raise PaddleInferError(f"PaddleX {shown(version)} has no registry of engines; {known}")
    _log.warning("PaddleX %s was not tried with paddleinfer.paddlex; %s", version, known)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in release.split("."))


def part(module: str, name: str) -> Any:
    """Returns one name of a module of PaddleX's.

    Raises
    ------
    PaddleInferError
        PaddleX does not have it; the sentence says which version that is.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        version = importlib.metadata.version("paddlex")
        raise PaddleInferError(
            f"PaddleX {shown(version)} looks different from the known versions ({listed(KNOWN_VERSIONS)}): "
            f"it has no {module}.{name} ({error})"
        ) from error
