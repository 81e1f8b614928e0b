"""Examines the installed Paddle: what it can do, and the addresses of its objects."""

from __future__ import annotations

import builtins
import ctypes
import functools
import importlib.metadata
import importlib.util
import re
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from paddleinfer.backends.paddle.host_process import left_as_it_was
from paddleinfer.errors import ConfigError

__all__ = ["InstalledPaddle", "import_paddle", "installed_package", "native_address", "numbers_of"]

_POINTER_BYTES = ctypes.sizeof(ctypes.c_void_p)
_INTERNALS = "__pybind11_internals_v"


def import_paddle() -> ModuleType:
    """Imports paddle and paddle.inference silently, and leaves the process as it was.

    Raises
    ------
    ConfigError
        Paddle is not installed; the sentence names the command that installs it.
    """
    if importlib.util.find_spec("paddle") is None:
        raise ConfigError(
            "Paddle is not installed; install it with pip install 'paddleinfer[cpu]', or on a machine "
            "with a GPU with pip install 'paddleinfer[gpu]'"
        )
    if "paddle.inference" in sys.modules:
        import paddle
        import paddle.inference  # waits for another thread's import

        imported: ModuleType = paddle
        return imported
    with left_as_it_was(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paddle
        import paddle.inference
    module: ModuleType = paddle
    return module


def installed_package() -> tuple[str, str] | None:
    """Returns the package that Paddle came in and its version, without importing it."""
    for name in ("paddlepaddle-gpu", "paddlepaddle"):
        try:
            return name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def numbers_of(version: str) -> tuple[int, ...]:
    """Returns a version's leading numbers, as (3, 3, 1); a development build's 0.0.0 gives none."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return numbers if any(numbers) else ()


def _pybind_abi() -> bytes | None:
    """Returns the name of pybind11's ABI in this process, as its conduit expects it."""
    for name in vars(builtins):
        if name.startswith(_INTERNALS) and name.endswith("__"):
            return name[len(_INTERNALS) : -2].lstrip("0123456789").encode()
    return None


def native_address(instance: Any, typeinfo: int | None) -> int:
    """Returns the address of the C++ object inside a pybind11 instance.

    pybind11 2.14 and later give it officially, through ``_pybind11_conduit_v1_``, for the address of the
    class's ``std::type_info``. Earlier versions keep the pointer right behind the object header.
    """
    abi = _pybind_abi()
    if typeinfo and abi and hasattr(instance, "_pybind11_conduit_v1_"):
        api = ctypes.pythonapi
        new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
        name = b"St9type_info"
        capsule = new(("PyCapsule_New", api))(typeinfo, name, None)
        pointer = instance._pybind11_conduit_v1_(abi, capsule, b"raw_pointer_ephemeral")
        if pointer is not None:
            held_as = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
            address = get(("PyCapsule_GetPointer", api))(pointer, held_as(pointer))
            if address:
                return int(address)
    value = ctypes.c_void_p.from_address(id(instance) + object.__basicsize__).value
    return value or 0


@dataclass(frozen=True)
class InstalledPaddle:
    """The installed Paddle, and what it can do."""

    module: ModuleType = field(repr=False)
    inference: ModuleType = field(repr=False)
    """Paddle's own ``paddle.inference``, whatever stands in its place later."""
    version: str
    library_path: str
    with_cuda: bool
    with_tensorrt: bool
    onednn: bool
    """Whether oneDNN is compiled in."""

    cpu_place: Any = field(repr=False)
    """A phi::CPUPlace; native code uses its address as long as the process lives."""

    @classmethod
    @functools.cache
    def find(cls) -> InstalledPaddle:
        """Imports Paddle and examines it, once per process."""
        paddle = import_paddle()
        core = paddle.base.core
        tensorrt = paddle.inference.get_trt_compile_version()
        return cls(
            module=paddle,
            inference=paddle.inference,
            version=str(paddle.__version__),
            library_path=str(Path(core.libpaddle.__file__).resolve()),
            with_cuda=bool(paddle.is_compiled_with_cuda()),
            with_tensorrt=tuple(tensorrt) != (0, 0, 0),
            onednn=_has_onednn(core),
            cpu_place=paddle.CPUPlace(),
        )

    @property
    def distribution(self) -> str:
        """The package it came in."""
        return "paddlepaddle-gpu" if self.with_cuda else "paddlepaddle"

    @property
    def version_numbers(self) -> tuple[int, ...]:
        """The version's leading numbers."""
        return numbers_of(self.version)

    def typeinfo(self, symbol: str) -> int | None:
        """Returns the address of an exported std::type_info; None if it is not exported."""
        library = ctypes.CDLL(self.library_path)
        try:
            return ctypes.addressof(ctypes.c_char.in_dll(library, symbol))
        except ValueError:
            return None

    def config_address(self, config: Any) -> int:
        """Returns the address of the paddle::AnalysisConfig in a ``paddle.inference.Config``."""
        return native_address(config, self.typeinfo("_ZTIN6paddle14AnalysisConfigE"))

    def cpu_place_address(self) -> int:
        """Returns the address of the CPUPlace."""
        return native_address(self.cpu_place, self.typeinfo("_ZTIN3phi8CPUPlaceE"))


def _has_onednn(core: Any) -> bool:
    for name in ("is_compiled_with_onednn", "is_compiled_with_mkldnn"):
        asked = getattr(core, name, None)
        if asked is not None:
            return bool(asked())
    return False
