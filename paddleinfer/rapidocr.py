"""Puts the engine under RapidOCR: under the Paddle engine of ``rapidocr`` 3, and ``rapidocr_paddle`` 1.4.

Both make their predictors by ``inference``, a name of one of their modules; ``install`` has it stand for
``paddleinfer.inference``, with options of its own.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import threading
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from paddleinfer.backends.paddle.installed import numbers_of
from paddleinfer.config import EngineConfig, EngineOptions
from paddleinfer.errors import ConfigError
from paddleinfer.inference import Config, create_predictor

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["install", "uninstall"]


@dataclass(frozen=True)
class _Known:
    """A package of RapidOCR's, and where it makes its predictors."""

    package: str
    module: str
    versions: tuple[int, ...]
    """The beginning of every version that is known."""

    @property
    def as_text(self) -> str:
        return f"{self.package} {'.'.join(map(str, self.versions))}"


_KNOWN = (
    _Known("rapidocr", "rapidocr.inference_engine.paddle.main", (3,)),
    _Known("rapidocr_paddle", "rapidocr_paddle.utils.infer_engine", (1, 4)),
)
_NAMES = ("PaddleInferSession", "inference")


@dataclass(frozen=True)
class _Installed:
    module: ModuleType
    before: Any
    ours: SimpleNamespace


_installed: dict[str, _Installed] = {}
_changes = threading.Lock()


def install(**options: Unpack[EngineOptions]) -> tuple[str, ...]:
    """Has each RapidOCR that is made from now on run its Paddle models on engines, which equal ones share.

    A second call changes the options.

    Parameters
    ----------
    **options
        Options of the engines, as of ``Engine``; they win over what RapidOCR asks for.

    Returns
    -------
    tuple
        The packages that were found, with their versions.

    Raises
    ------
    ConfigError
        An option is wrong, none of the packages is installed, or one has a version that is not known.
    """
    EngineConfig.from_options(options)
    with _changes:
        found = [(known, _checked_version(known)) for known in _KNOWN if _is_there(known.package)]
        if not found:
            names = " nor ".join(known.package for known in _KNOWN)
            raise ConfigError(f"neither {names} is installed; install one with pip install rapidocr")
        modules = [(known, _checked_module(known, version)) for known, version in found]
        ours = SimpleNamespace(
            Config=functools.partial(_config_with, options), create_predictor=create_predictor
        )
        for known, module in modules:
            earlier = _installed.get(known.package)
            before = module.inference if earlier is None else earlier.before
            if earlier is not None:
                _refuse_replaced(earlier)
            module.inference = ours  # type: ignore[attr-defined]
            _installed[known.package] = _Installed(module, before, ours)
    return tuple(f"{known.package} {version}" for known, version in found)


def uninstall() -> None:
    """Has each RapidOCR that is made from now on run on Paddle again; those of before go on as they are.

    Raises
    ------
    ConfigError
        Something else was put in our place since.
    """
    with _changes:
        for package, installed in list(_installed.items()):
            _refuse_replaced(installed)
            installed.module.inference = installed.before  # type: ignore[attr-defined]
            del _installed[package]


def _config_with(options: EngineOptions, *model: Any) -> Config:
    config = Config(*model)
    config.set_engine_options(**options)
    return config


def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _checked_version(known: _Known) -> str:
    try:
        version = importlib.metadata.version(known.package)
    except importlib.metadata.PackageNotFoundError:
        version = "without metadata"
    if numbers_of(version)[: len(known.versions)] != known.versions:
        raise ConfigError(f"{known.package} {version} is not known; {_all_known()} are")
    return version


def _checked_module(known: _Known, version: str) -> ModuleType:
    try:
        module = importlib.import_module(known.module)
    except ImportError as error:
        raise ConfigError(f"{known.package} {version} cannot be imported: {error}") from error
    missing = [name for name in _NAMES if not hasattr(module, name)]
    if missing:
        raise ConfigError(
            f"{known.package} {version} is not as it is known: {known.module} has no "
            + " and no ".join(missing)
        )
    return module


def _all_known() -> str:
    return " and ".join(known.as_text for known in _KNOWN)


def _refuse_replaced(installed: _Installed) -> None:
    if installed.module.inference is not installed.ours:
        raise ConfigError(
            f"inference in {installed.module.__name__} was replaced since paddleinfer.rapidocr.install(); "
            "take that back first"
        )
