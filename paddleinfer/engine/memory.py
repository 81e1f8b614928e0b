"""Tells what a model will take in memory, before it is loaded."""

from __future__ import annotations

import os

from paddleinfer.config import EngineConfig
from paddleinfer.engine.opening import opening, saying_what_lacks_memory
from paddleinfer.engine.preparation import prepared_as_tuned
from paddleinfer.models.reader import ModelSpec, load_spec

__all__ = ["estimate"]


def estimate(path: str | os.PathLike[str], config: EngineConfig) -> tuple[ModelSpec, int]:
    """Returns the model as its files describe it, and the bytes that an engine's weights would take.

    The bytes are the parameters' in the files: once for all instances where these share them, and once more
    for each instance where oneDNN keeps a copy. Runs take more while they last, which is not in there.

    Raises
    ------
    ConfigError, ModelLoadError, OutOfMemory
        The engine could not be opened, as far as that shows before Paddle loads the model.
    """
    with saying_what_lacks_memory(path), opening() as load:
        spec = load_spec(path, config.runtime.params)
        model, _ = prepared_as_tuned(spec, config, load)
        return spec, model.memory_bytes
