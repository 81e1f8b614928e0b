"""Imports a runtime's Python package when it is needed."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["imported"]


def imported(package: str) -> Any:
    """Returns the module.

    Raises
    ------
    RuntimeError
        It is installed, and cannot be imported: it was built for another Python or NumPy, say.
    """
    try:
        return importlib.import_module(package)
    except Exception as error:  # a package may raise anything
        why = str(error) or type(error).__name__
        raise RuntimeError(f"the Python package {package} cannot be imported here: {why}") from error
