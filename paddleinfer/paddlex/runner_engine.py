"""The engine "paddleinfer" in PaddleX's registry of engines: it makes runners on shared engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from paddlex.inference.models.engines import RunnerEngine
from paddlex.inference.models.utils.model_paths import get_model_paths

from paddleinfer.engine.sharing import lease_engine
from paddleinfer.errors import ConfigError, ModelLoadError
from paddleinfer.options.tuning_file import TUNABLE, TUNING_FILE_NAME
from paddleinfer.paddlex.families import defaults_of, is_recognizer
from paddleinfer.paddlex.model_options import ENGINE_NAME, ModelOptions, device_of, options_of_model
from paddleinfer.paddlex.runner import EngineRunner
from paddleinfer.sentences import shown

__all__ = ["PaddleInferEngine"]

_DEVICE = ("device_type", "device_id")  # PaddleX's own keys


class PaddleInferEngine(RunnerEngine):
    """What PaddleX asks for ``engine="paddleinfer"``; the class registers itself."""

    entities = ENGINE_NAME

    @property
    def name(self) -> str:
        """The engine's name."""
        return ENGINE_NAME

    def get_supported_model_formats(self) -> tuple[str, ...]:
        """The formats of models, the preferred one first; PaddleX fetches these."""
        return ("paddle", "onnx")

    def prepare_config_dict(
        self, raw: dict[str, Any], *, model_name: str | None = None, device: str | None = None
    ) -> dict[str, Any]:
        """Returns the options of one model out of ``engine_config``, and PaddleX's device."""
        options = options_of_model(raw, model_name or "")
        ModelOptions.from_flat(options)
        self._apply_device(options, device)
        return options

    def get_default_runner_builder(self) -> Callable[..., EngineRunner]:
        """Returns what makes the runner of a predictor."""
        return build_runner

    def validate_runner(self, runner: Any) -> None:
        """Raises TypeError for a runner of another engine."""
        if not isinstance(runner, EngineRunner):
            raise TypeError(f"the engine paddleinfer makes an EngineRunner, not {type(runner).__name__}")


def build_runner(
    *, model_name: str, model_dir: Path | None, engine_config: Mapping[str, Any], **_: Any
) -> EngineRunner:
    """Returns a runner on the engine of this model.

    Raises
    ------
    ModelLoadError
        The directory has no model, or it cannot be loaded.
    ConfigError
        An option is unknown, out of range, or not possible here.
    """
    own = {name: value for name, value in engine_config.items() if name not in _DEVICE}
    device = device_of(*map(engine_config.get, _DEVICE))
    backend = own.get("backend")
    file = _model_file(model_dir, backend)
    defaults = defaults_of(model_name, file, own.get("device", device), backend)
    if own.get("tuning_file", "auto") != "auto" or file.with_name(TUNING_FILE_NAME).is_file():
        # What was measured for this model says more than its family.
        defaults = {name: value for name, value in defaults.items() if name not in TUNABLE}
    options = ModelOptions.from_flat({**defaults, **own})
    # It may be given for all models.
    own_widths = options.own_widths and is_recognizer(model_name)
    return EngineRunner(lease_engine(file, options.config), own_widths)


def _model_file(model_dir: Path | None, backend: str | None) -> Path:
    if model_dir is None:
        raise ConfigError("the engine paddleinfer needs the directory of a model, and was given none")
    paths = get_model_paths(model_dir)
    if "paddle" in paths:
        return Path(paths["paddle"][0])
    if "onnx" in paths and backend != "paddle":
        return Path(paths["onnx"])
    raise ModelLoadError(
        f"{shown(str(model_dir))} has no inference.json or inference.pdmodel with inference.pdiparams"
        + (", and inference.onnx does not run on Paddle" if "onnx" in paths else "")
    )
