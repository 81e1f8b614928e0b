"""Reloads models whose files have changed."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from paddleinfer.errors import PaddleInferError

from ..protocol.errors import RequestError
from .models import Models
from .served_models import ServedModel

__all__ = ["watch_files"]

_log = logging.getLogger("paddleinfer.http")

# Paddle Serving reloads a model when this file beside it is touched.
_STAMP = "fluid_time_file"

# Files beside the model that are read with it.
_BESIDE = (_STAMP, "inference.yml")
# A copy over a slow line pauses; after a pause this long it counts as complete.
_STILL_S = 1.0

Stamps = tuple[tuple[str, int, int, int], ...]


async def watch_files(models: Models, interval_s: float) -> None:
    """Checks the files of all models at this interval, until it is cancelled.

    Changed files are loaded once they have stayed the same for a second and between two checks, because they
    may be half copied. A failure is logged, and the load is tried again when the files change again. The same
    holds for a model that could not be opened at the start.
    """
    loaded = {model.label: _stamps_when_read(model) for model in models}
    seen = {model.label: _stamps(model) for model in models}
    time_s = asyncio.get_running_loop().time
    seen_s = dict.fromkeys(loaded, time_s())
    while True:
        await asyncio.sleep(interval_s)
        for model in models:
            now = _stamps(model)
            if now != seen[model.label]:
                seen[model.label], seen_s[model.label] = now, time_s()
                continue
            still = time_s() - seen_s[model.label] >= _STILL_S
            if not now or not still or now == loaded[model.label] or not (model.ready or model.failed):
                continue
            loaded[model.label] = now
            was_failed = model.failed
            try:
                await models.load(model, model.config, while_serving=True)
            except (PaddleInferError, RequestError) as error:
                _log.error("%s could not be reloaded: %s", model.label, error)
            except Exception:
                _log.exception("%s could not be reloaded", model.label)
            else:
                _log.info("%s was reloaded because its files changed", model.label)
                if was_failed:  # the files that belong to the model are known now
                    loaded[model.label] = seen[model.label] = _stamps(model)


def _stamps(model: ServedModel) -> Stamps:
    """Returns name, inode, time and size of every file of the model; empty while one is missing."""
    try:
        facts = [(path.name, path.stat()) for path in _files(model)]
    except OSError:
        return ()
    return tuple((name, fact.st_ino, fact.st_mtime_ns, fact.st_size) for name, fact in facts)


def _stamps_when_read(model: ServedModel) -> Stamps:
    """Returns the files as they were when the model read them: one may have changed since."""
    read = {} if model.engine is None else {state.path.name: state for state in model.engine.model.files}
    stamps = []
    for stamp in _stamps(model):
        state = read.get(stamp[0])
        stamps.append(stamp if state is None else (stamp[0], state.inode, state.modified_ns, state.size))
    return tuple(stamps)


def _files(model: ServedModel) -> list[Path]:
    if model.engine is None:
        return _files_around(model.source.path) if model.failed and model.source is not None else []
    spec = model.engine.model
    program = spec.program_path
    if program is None:
        return []
    beside = [program.parent / name for name in _BESIDE]
    return [*(state.path for state in spec.files), *(path for path in beside if path.exists())]


def _files_around(path: Path) -> list[Path]:
    """Returns the files around a model that could not be opened, because its own are unknown."""
    directory = path if path.is_dir() else path.parent
    return sorted(file for file in directory.iterdir() if file.is_file())
