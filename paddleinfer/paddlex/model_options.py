"""What ``engine_config`` says for one model of a pipeline: options of its engine, and of how it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from paddleinfer.config import EngineConfig, option_names
from paddleinfer.config.checks import check_bool
from paddleinfer.errors import ConfigError
from paddleinfer.sentences import listed, shown

__all__ = ["ENGINE_NAME", "ModelOptions", "device_of", "options_of_model"]

ENGINE_NAME: Final = "paddleinfer"
"""What PaddleX and PaddleOCR take as ``engine``."""

MODELS: Final = "models"
OWN_WIDTHS: Final = "own_widths"


@dataclass(frozen=True)
class ModelOptions:
    """The options of one model."""

    config: EngineConfig
    """Those of its engine."""
    own_widths: bool = False
    """A recognizer's lines run at their own widths, in steps of 64 pixels, instead of at the widest one's."""

    @classmethod
    def from_flat(cls, flat: Mapping[str, Any]) -> ModelOptions:
        """Checks them; `flat` is what `options_of_model` returns.

        Raises
        ------
        ConfigError
            An option is unknown or out of range.
        """
        engine = dict(flat)
        own_widths = engine.pop(OWN_WIDTHS, False)
        check_bool(OWN_WIDTHS, own_widths)
        return cls(EngineConfig.from_options(engine), own_widths)


def options_of_model(engine_config: Mapping[str, Any], model_name: str) -> dict[str, Any]:
    """Returns the options of one model: its own, else those for all models.

    Parameters
    ----------
    engine_config
        Options for all models, and under ``"models"`` further ones by the model's name.
    model_name
        PaddleX's name of the model.

    Raises
    ------
    ConfigError
        It is no mapping of options; the sentence says where.
    """
    for_all = dict(engine_config)
    by_name = for_all.pop(MODELS, {})
    if not isinstance(by_name, Mapping):
        raise ConfigError(
            f"engine_config[{MODELS!r}] is a dict of a model's name and its options, not {shown(by_name)}"
        )
    own = by_name.get(model_name, {})
    if not isinstance(own, Mapping):
        raise ConfigError(f"engine_config[{MODELS!r}][{model_name!r}] is a dict of options, not {shown(own)}")
    for options, place in ((for_all, "engine_config"), (own, f"engine_config[{MODELS!r}][{model_name!r}]")):
        _check_names(options, place)
    return {**for_all, **own}


def _check_names(options: Mapping[str, Any], place: str) -> None:
    known = {*option_names(), OWN_WIDTHS}
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ConfigError(
            f"{place} has no option {listed(map(shown, unknown))} for the engine paddleinfer; it takes those "
            f"of paddleinfer.Engine, {OWN_WIDTHS} and {MODELS}"
        )


def device_of(device_type: str | None, device_id: int | None) -> str:
    """Returns PaddleX's device as an engine names it.

    Raises
    ------
    ConfigError
        It is neither the CPU nor a GPU.
    """
    if device_type in (None, "cpu"):
        return "cpu"
    if device_type == "gpu":
        return f"gpu:{device_id or 0}"
    raise ConfigError(f"the engine paddleinfer runs on cpu and gpu, not on the device {shown(device_type)}")
