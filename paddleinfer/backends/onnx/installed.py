"""Finds the installed runtimes of ONNX models, without importing them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from paddleinfer.backends.paddle.installed import numbers_of
from paddleinfer.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["InstalledOnnxRuntime", "InstalledOpenVino"]


@dataclass(frozen=True)
class _Installed:
    """A runtime's Python package."""

    version: str
    library: Path | None
    """Its library with the C interface; None if the package has none."""

    module: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    """The names that the index has it under."""
    libraries: ClassVar[str]
    """Where the library is in the package; the last that fits is it."""

    @classmethod
    def find(cls) -> Self:
        """Finds it.

        Raises
        ------
        ConfigError
            It is not installed; the sentence names the command that installs it.
        """
        spec = importlib.util.find_spec(cls.module)
        if spec is None or spec.origin is None:
            raise ConfigError(
                f'backend="{cls.module}" needs {cls.module}, which is not installed; install it with '
                f"pip install 'paddleinfer[{cls.module}]'"
            )
        found = sorted(Path(spec.origin).parent.glob(cls.libraries))
        return cls(cls._version(), found[-1] if found else None)

    @classmethod
    def _version(cls) -> str:
        for name in cls.packages:
            try:
                return importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        return "of an unknown version"


@dataclass(frozen=True)
class InstalledOnnxRuntime(_Installed):
    """onnxruntime's Python package."""

    module = "onnxruntime"
    packages = ("onnxruntime", "onnxruntime-gpu")
    libraries = "capi/libonnxruntime.so.*"


@dataclass(frozen=True)
class InstalledOpenVino(_Installed):
    """OpenVINO's Python package."""

    module = "openvino"
    packages = ("openvino",)
    libraries = "libs/libopenvino_c.so*"

    @classmethod
    def find(cls) -> Self:
        """Finds it.

        Raises
        ------
        ConfigError
            It is not installed, or too old.
        """
        found = super().find()
        if numbers_of(found.version) and numbers_of(found.version) < (2025,):
            raise ConfigError(
                f'backend="openvino" needs OpenVINO 2025 or later, and {found.version} is installed; install '
                "a later one with pip install -U 'paddleinfer[openvino]'"
            )
        return found
