"""What Paddle Serving's options become: the engine's own, or a sentence that says why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from paddleinfer.config import EngineConfig
from paddleinfer.config.checks import is_int
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import shown

__all__ = ["Translation", "refuse_unless"]

_PRECISIONS = {"fp32": "float32", "fp16": "float16", "int8": "int8", "bf16": "bfloat16"}


@dataclass
class Translation:
    """Paddle Serving's options, as they are taken in one after the other."""

    options: dict[str, Any] = field(default_factory=dict)
    """The engine's options."""
    given: dict[str, tuple[Any, tuple[str, ...]]] = field(default_factory=dict)
    """Paddle Serving's name -> the value, and the engine's options that it became."""

    def take(self, name: str, value: object, **becomes: object) -> None:
        """`name` was given with this value, and becomes these options of the engine."""
        self.options.update(becomes)
        self.given[name] = (value, tuple(becomes))

    def take_switches(self, **switches: object) -> None:
        """Options of the same name that are on or off."""
        for name, value in switches.items():
            if not isinstance(value, bool):
                raise ConfigError(f"{name} must be True or False, not {shown(value)}")
            self.take(name, value, **{name: value})

    def take_count(self, name: str, value: object, least: int, becomes: str) -> None:
        """An option that counts."""
        if not is_int(value) or value < least:  # type: ignore[operator]
            raise ConfigError(f"{name} must be an integer from {least} up, not {shown(value)}")
        self.take(name, value, **{becomes: value})

    def take_precision(self, precision: object, *, use_trt: object) -> None:
        """``precision`` and ``use_trt``, after ``device``."""
        if not isinstance(use_trt, bool):
            raise ConfigError(f"use_trt must be True or False, not {shown(use_trt)}")
        ours = _PRECISIONS.get(precision.lower()) if isinstance(precision, str) else None
        if ours is None:
            raise ConfigError(f"precision must be one of {', '.join(_PRECISIONS)}, not {shown(precision)}")
        on_gpu = self.options.get("device", "cpu") != "cpu"
        needs_trt = ours in ("float16", "int8")
        if use_trt and not on_gpu:
            raise ConfigError("use_trt=True needs a GPU: TensorRT does not run on the CPU")
        if use_trt and not needs_trt:
            raise ConfigError(
                f"use_trt=True needs the precision fp16 or int8, not {precision}: TensorRT is used for these"
            )
        if needs_trt and not use_trt:
            raise ConfigError(f"the precision {precision} needs use_trt=True, and a GPU")
        self.take("precision", precision, precision=ours)
        self.take("use_trt", use_trt, precision=ours)

    def take_onednn(self, use_mkldnn: object, capacity: object) -> None:
        """``use_mkldnn`` and ``mkldnn_cache_capacity``, after ``device``."""
        if not isinstance(use_mkldnn, bool):
            raise ConfigError(f"use_mkldnn must be True or False, not {shown(use_mkldnn)}")
        on_cpu = self.options.get("device", "cpu") == "cpu"
        if use_mkldnn and not on_cpu:
            raise ConfigError("use_mkldnn=True is for the CPU, and a GPU is given")
        self.take("use_mkldnn", use_mkldnn, **({"onednn": use_mkldnn} if on_cpu else {}))
        if not is_int(capacity) or capacity < 0:  # type: ignore[operator]
            raise ConfigError(f"mkldnn_cache_capacity must be an integer from 0 up, not {shown(capacity)}")
        if capacity and not use_mkldnn:
            raise ConfigError("mkldnn_cache_capacity needs use_mkldnn=True")
        if capacity:
            self.take("mkldnn_cache_capacity", capacity, max_onednn_shapes=capacity)

    def config(self, **beside: object) -> EngineConfig:
        """Of the engine.

        Raises
        ------
        ConfigError
            An option is out of range.
        """
        return EngineConfig.from_options({**beside, **self.options})

    def report(self, in_force: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Paddle Serving's name -> its ``value``, and under ``engine`` the lines of what it became."""
        return {
            name: {"value": value, "engine": {option: dict(in_force[option]) for option in becomes}}
            for name, (value, becomes) in self.given.items()
        }


def refuse_unless(default: object, why: Mapping[str, str], values: Iterable[tuple[str, object]]) -> None:
    """Refuses options that have no meaning here, where they are not `default` or empty.

    Raises
    ------
    ConfigError
        With the reason of the first such option.
    """
    for name, value in values:
        if value != default and value not in (None, [], {}, ()):
            raise ConfigError(f"{name}={shown(value)} is not offered: {why[name]}")
