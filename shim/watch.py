"""Loads models again whose files have changed."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from paddleinfer.engine import Engine
from paddleinfer.errors import PaddleInferError

from .models import Models, ServedModel

__all__ = ["watch_files"]

_log = logging.getLogger("paddleinfer.http")

# Paddle Serving reloads a model when this file beside it is touched.
_STAMP = "fluid_time_file"

Stamps = tuple[tuple[str, int, int], ...]


async def watch_files(models: Models, interval_s: float) -> None:
    """Looks at the files of all models at this interval, until it is cancelled.

    Files that have changed are loaded once they have not changed between two looks: they may be half copied.
    What cannot be loaded is logged, and tried again when the files have changed again.
    """
    loaded = {model.name: _stamps(model) for model in models}
    seen = dict(loaded)
    while True:
        await asyncio.sleep(interval_s)
        for model in models:
            now = _stamps(model)
            settled = now == seen[model.name]
            seen[model.name] = now
            if not now or not settled or now == loaded[model.name] or not model.ready:
                continue
            loaded[model.name] = now
            try:
                await models.load(model, model.config)
            except PaddleInferError as error:
                _log.error("%s was not loaded again: %s", model.name, error)
            except Exception:
                _log.exception("%s was not loaded again", model.name)
            else:
                _log.warning("%s was loaded again, for its files have changed", model.name)


def _stamps(model: ServedModel) -> Stamps:
    """Name, time and size of every file that belongs to the model; none while one is missing."""
    engine = model.engine
    if engine is None:
        return ()
    try:
        facts = [(path.name, path.stat()) for path in _files(engine)]
    except OSError:
        return ()
    return tuple((name, fact.st_mtime_ns, fact.st_size) for name, fact in facts)


def _files(engine: Engine) -> list[Path]:
    spec = engine.model
    program = spec.program_path
    if program is None:
        return []
    parameters = sorted(spec.model_dir.iterdir()) if spec.model_dir is not None else [spec.params_path]
    stamp = program.parent / _STAMP
    return [path for path in (program, *parameters, *([stamp] if stamp.exists() else [])) if path is not None]
