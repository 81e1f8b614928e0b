"""Finds the installed onnxruntime, without importing it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from paddleinfer.errors import ConfigError

__all__ = ["InstalledOnnxRuntime"]

_PACKAGES = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class InstalledOnnxRuntime:
    """onnxruntime's Python package."""

    version: str
    library: Path | None
    """Its library with the C interface; None if the package has none."""

    @classmethod
    def find(cls) -> InstalledOnnxRuntime:
        """Finds it.

        Raises
        ------
        ConfigError
            It is not installed; the sentence names the command that installs it.
        """
        spec = importlib.util.find_spec("onnxruntime")
        if spec is None or spec.origin is None:
            raise ConfigError(
                'backend="onnxruntime" needs onnxruntime, which is not installed; install it with '
                "pip install 'paddleinfer[onnxruntime]'"
            )
        found = sorted(Path(spec.origin).parent.glob("capi/libonnxruntime.so.*"))
        return cls(_version(), found[-1] if found else None)


def _version() -> str:
    for name in _PACKAGES:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of an unknown version"
