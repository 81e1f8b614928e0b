"""Prepares a model for its start by the backend that the options name."""

from __future__ import annotations

from paddleinfer.config import EngineConfig
from paddleinfer.engine.generation import Loadable
from paddleinfer.engine.opening import Opening
from paddleinfer.models.foreign_files import refuse_foreign
from paddleinfer.models.reader import ModelFormat, ModelSpec

__all__ = ["prepared"]


def prepared(spec: ModelSpec, config: EngineConfig, load: Opening) -> Loadable:
    """Decides how a model will be run, and loads nothing yet.

    Raises
    ------
    ConfigError
        An option is not possible here.
    ModelLoadError
        The backend does not take such a model.
    """
    if config.runtime.backend == "onnxruntime":
        from paddleinfer.backends.onnx import runtime as onnx_runtime

        return onnx_runtime.prepare(spec, config, load)
    if spec.format is ModelFormat.ONNX:
        refuse_foreign([spec.path])
    from paddleinfer.backends.paddle import runtime

    return runtime.prepare(spec, config)
