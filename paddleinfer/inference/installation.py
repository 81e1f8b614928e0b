"""Puts the look-alike where code imports ``paddle.inference``, and takes it back."""

from __future__ import annotations

import importlib
import sys
import threading
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from paddleinfer.backends.paddle.installed import InstalledPaddle
from paddleinfer.config import EngineOptions
from paddleinfer.errors import ConfigError
from paddleinfer.inference import process_options
from paddleinfer.sentences import shown

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["install", "uninstall"]

_NAME = "paddle.inference"


class _LookAlike(ModuleType):
    """The module that stands for ``paddle.inference``. What we have no name for is Paddle's own."""

    def __init__(self, paddles: ModuleType) -> None:
        super().__init__(_NAME, "paddleinfer.inference, installed in place of Paddle's own module.")
        self._ours = importlib.import_module("paddleinfer.inference")
        self._paddles = paddles
        self.__path__ = paddles.__path__  # submodules, such as contrib, are Paddle's own
        self.__all__ = list(paddles.__all__)

    def __getattr__(self, name: str) -> Any:
        ours = self._ours
        return getattr(ours if name in ours.__all__ else self._paddles, name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._paddles), *self._ours.__all__})


@dataclass
class _State:
    look_alike: _LookAlike | None = None
    paddles: ModuleType | None = None
    """What stood there before."""


_state = _State()
_changes = threading.Lock()


def install(**options: Unpack[EngineOptions]) -> None:
    """Puts the look-alike in the place of ``paddle.inference``, for code that imports it from now on.

    Code that has imported names from there before keeps Paddle's own. A second call only changes the options.

    Parameters
    ----------
    **options
        Options of the engine, as of ``Engine``, for all predictors that are made from now on. They win over
        what a Config asks for; ``Config.set_engine_options`` wins over them.

    Raises
    ------
    ConfigError
        An option is unknown or out of range, Paddle is not installed, or something else has taken the place
        of ``paddle.inference``.
    """
    with _changes:
        paddle: Any = InstalledPaddle.find().module
        if _state.look_alike is not None:
            _refuse_replaced(paddle, _state.look_alike)
            process_options.put_in_force(options)
            return
        process_options.put_in_force(options)
        _state.paddles = sys.modules[_NAME]
        _state.look_alike = _LookAlike(_state.paddles)
        sys.modules[_NAME] = paddle.inference = _state.look_alike


def uninstall() -> None:
    """Puts Paddle's own module back, and the options of ``install`` out of force. Again does nothing.

    Predictors that were made meanwhile go on.

    Raises
    ------
    ConfigError
        Something else has taken the place of ``paddle.inference`` since.
    """
    with _changes:
        if _state.look_alike is None or _state.paddles is None:
            return
        paddle: Any = InstalledPaddle.find().module
        _refuse_replaced(paddle, _state.look_alike)
        sys.modules[_NAME] = paddle.inference = _state.paddles
        _state.look_alike = _state.paddles = None
        process_options.put_in_force({})


def _refuse_replaced(paddle: ModuleType, look_alike: _LookAlike) -> None:
    for where, found in (
        ("sys.modules", sys.modules.get(_NAME)),
        ("paddle", getattr(paddle, "inference", None)),
    ):
        if found is not look_alike:
            raise ConfigError(
                f"{_NAME} in {where} was replaced by {shown(found)} since paddleinfer.inference.install(); "
                "take that back first"
            )
