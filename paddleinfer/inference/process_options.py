"""Options of engines that hold for all of a process: ``install(**options)`` sets them."""

from __future__ import annotations

from paddleinfer.config import EngineConfig, EngineOptions

__all__ = ["in_force", "put_in_force"]


class _InForce:
    def __init__(self) -> None:
        self.options: EngineOptions = {}


_now = _InForce()


def put_in_force(options: EngineOptions) -> None:
    """Has every predictor that is made from now on use these options.

    Raises
    ------
    ConfigError
        An option is unknown or out of range.
    """
    EngineConfig.from_options(options)
    _now.options = {**options}


def in_force() -> EngineOptions:
    """Returns the options."""
    return _now.options
