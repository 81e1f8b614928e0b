"""Prepares a model for its start by the backend that the options name."""

from __future__ import annotations

from dataclasses import replace

from paddleinfer.config import EngineConfig
from paddleinfer.engine.backend_choice import OpenTrial, choose_backend
from paddleinfer.engine.generation import Loadable
from paddleinfer.engine.opening import Opening
from paddleinfer.engine.tuned_options import tuned_options
from paddleinfer.errors import ConfigError
from paddleinfer.models.foreign_files import refuse_foreign
from paddleinfer.models.reader import ModelFormat, ModelSpec

__all__ = ["prepared", "prepared_as_tuned"]


def prepared_as_tuned(
    spec: ModelSpec, config: EngineConfig, load: Opening, open_trial: OpenTrial | None = None
) -> tuple[Loadable, EngineConfig]:
    """Does what `prepared` does, with the options of a tuning file; returns the options in force, too.

    Parameters
    ----------
    spec, config, load
        As for `prepared`.
    open_trial
        Opens an engine of this model, where ``backend="auto"`` has to measure; None measures nothing.

    Raises
    ------
    ConfigError
        An option is not possible here, or the tuning file is damaged.
    ModelLoadError
        The backend does not take such a model.
    """
    tuned = tuned_options(spec, config)
    chosen, why = tuned.config, ""
    if chosen.runtime.backend == "auto":
        backend, why = choose_backend(spec, chosen, load, open_trial)
        chosen = replace(chosen, runtime=replace(chosen.runtime, backend=backend))
    try:
        model = prepared(spec, chosen, load)
    except ConfigError as error:
        if not tuned.in_force:
            raise
        raise ConfigError(f"{error}; {tuned.note}, and tuning_file=None leaves that out") from error.__cause__
    if tuned.note:
        model.resolved.note("tuning_file", tuned.note)
    if why:
        model.resolved.decide("backend", chosen.runtime.backend, "auto", why)
    return model, chosen


def prepared(spec: ModelSpec, config: EngineConfig, load: Opening) -> Loadable:
    """Decides how a model will be run, and loads nothing yet.

    Raises
    ------
    ConfigError
        An option is not possible here.
    ModelLoadError
        The backend does not take such a model.
    """
    if config.runtime.backend != "paddle":
        from paddleinfer.backends.onnx import runtime as onnx_runtime

        return onnx_runtime.prepare(spec, config, load)
    if spec.format is ModelFormat.ONNX:
        refuse_foreign([spec.path])
    from paddleinfer.backends.paddle import runtime

    return runtime.prepare(spec, config)
