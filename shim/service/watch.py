"""Reloads models whose files have changed, and finds versions that have appeared."""

from __future__ import annotations

import asyncio
import logging

from paddleinfer.errors import PaddleInferError

from ..protocol.errors import RequestError
from .file_stamps import Stamps, stamps_around, stamps_of, stamps_when_read
from .model_room import NoRoomNow
from .models import Models
from .served_models import ServedModel
from .settled import Settled
from .version_watch import VersionWatch

__all__ = ["watch_files"]

_log = logging.getLogger("paddleinfer.http")


async def watch_files(models: Models, interval_s: float) -> None:
    """Checks the files of all models at this interval, until it is cancelled.

    Changed files are loaded once they have stayed the same for a second and between two checks, because they
    may be half copied. A failure is logged, and the load is tried again when the files change again. The same
    holds for a model that could not be opened at the start, and for versions that appear.
    """
    watches = {model: _ModelWatch(models, model) for model in models}
    versions = [VersionWatch(name, changes) for name, changes in models.version_changes.items()]
    while True:
        await asyncio.sleep(interval_s)
        for model in list(models):
            if model not in watches:
                watches[model] = _ModelWatch(models, model)
            await watches[model].look()
        for one in versions:
            await one.look()
        watches = {model: watches[model] for model in models if model in watches}


class _ModelWatch:
    """The files of one version of a model."""

    def __init__(self, models: Models, model: ServedModel) -> None:
        self._models = models
        self._model = model
        self._loaded = stamps_when_read(model)
        self._load_of_these = self._present_load
        self._settled: Settled[Stamps] = Settled(self._stamps(), asyncio.get_running_loop().time())

    @property
    def _present_load(self) -> object:
        engine = self._model.engine
        return None if engine is None else (id(engine), engine.generation)

    def _stamps(self) -> Stamps:
        model = self._model
        if model.engine is not None or not model.failed or model.source is None:
            return stamps_of(model)
        try:
            return stamps_around(model.source.path)
        except OSError:
            return ()

    async def look(self) -> None:
        """Looks once, and loads what has changed and settled."""
        model = self._model
        present = self._present_load
        if present is not None and present != self._load_of_these:  # by a client or a request
            self._load_of_these, self._loaded = present, stamps_when_read(model)
        now = self._stamps()
        if not self._settled.look(now, asyncio.get_running_loop().time()):
            return
        if not now or now == self._loaded or not (model.ready or model.failed):
            return
        before, self._loaded = self._loaded, now
        try:
            await self._models.load(model, model.config, while_serving=True)
        except NoRoomNow as error:  # the next look tries again
            self._loaded = before
            _log.warning("%s is not reloaded yet: %s", model.label, error)
        except (PaddleInferError, RequestError) as error:
            _log.error("%s could not be reloaded: %s", model.label, error)
        except Exception:
            _log.exception("%s could not be reloaded", model.label)
        else:
            _log.info("%s was reloaded because its files changed", model.label)
