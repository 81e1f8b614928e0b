"""Looks for versions of a model that have appeared in its directory or vanished from it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from paddleinfer.errors import ModelLoadError, PaddleInferError

from ..protocol.errors import RequestError
from .file_stamps import Stamps, stamps_around
from .model_room import NoRoomNow
from .served_models import ServedModel
from .settled import Settled
from .version_changes import VersionChanges

__all__ = ["VersionWatch"]

_log = logging.getLogger("paddleinfer.http")


class VersionWatch:
    """The versions of one model.

    A new version is loaded once its files have stayed the same for a second and between two looks. A failure
    is logged, and the version is tried again when its files have changed. A version that the policy chooses
    no longer is dropped once all that it chooses are served.
    """

    def __init__(self, name: str, changes: VersionChanges) -> None:
        self._name = name
        self._changes = changes
        self._numbers: Settled[tuple[str, ...]] = Settled((), asyncio.get_running_loop().time())
        self._files: dict[Path, Settled[Stamps]] = {}
        self._tried: dict[Path, Stamps] = {}
        self._told = ""
        """The last sentence on the directory as a whole."""

    async def look(self) -> None:
        """Looks once, and loads and drops what has settled."""
        if self._changes.is_changing:
            return
        try:
            found = self._changes.difference()
        except ModelLoadError as error:
            self._tell(str(error))
            return
        self._told = ""
        now_s = asyncio.get_running_loop().time()
        numbers = tuple(model.version for model in (*found.new, *found.staying))
        has_settled = self._numbers.look(numbers, now_s)
        served = (*found.staying, *found.leaving)
        if all(model.reason == "unloaded" for model in served):  # a client wants none of it
            return
        loaded = [await self._look_at(model, now_s) for model in found.new]
        if (has_settled or any(loaded)) and found.leaving:
            await self._changes.drop_leaving()

    async def _look_at(self, model: ServedModel, now_s: float) -> bool:
        """Loads a new version whose files are whole, as far as that shows; tells if it is served now."""
        assert model.source is not None
        path = model.source.path
        try:
            stamps = stamps_around(path)
        except OSError:  # it is being removed
            return False
        settled = self._files.setdefault(path, Settled((), now_s)).look(stamps, now_s)
        if not (stamps and settled) or stamps == self._tried.get(path):
            return False
        self._tried[path] = stamps
        try:
            await self._changes.serve(model)
        except NoRoomNow as error:  # the next look tries again
            del self._tried[path]
            _log.warning("%s is not loaded yet: %s", model.label, error)
            return False
        except (PaddleInferError, RequestError) as error:
            _log.error("%s could not be loaded, and the versions before stay: %s", model.label, error)
            return False
        except Exception:
            _log.exception("%s could not be loaded, and the versions before stay", model.label)
            return False
        del self._tried[path], self._files[path]
        return True

    def _tell(self, sentence: str) -> None:
        if sentence != self._told:
            self._told = sentence
            _log.error("the versions of %s stay as they are: %s", self._name, sentence)
