"""Versions of a model that appear and vanish while the server runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from paddleinfer.config import EngineConfig
from paddleinfer.errors import ModelLoadError

from ..protocol.errors import RequestError
from .served_models import ModelSource, ServedModel, served_version

if TYPE_CHECKING:
    from .models import Models

__all__ = ["VersionChanges"]

_log = logging.getLogger("paddleinfer.http")


@dataclass(frozen=True)
class _Difference:
    """What the directory has, and what is served."""

    new: list[ServedModel]
    """Versions that the policy chooses and that are not served yet."""
    staying: list[ServedModel]
    leaving: list[ServedModel]
    """Versions that the policy chooses no longer."""


class VersionChanges:
    """The versions of one model, as its directory has them now.

    Parameters
    ----------
    models
        The models of the server, of which the versions are a part.
    name
        The model's name.
    source
        Its directory, and the policy that chooses among the versions.
    """

    def __init__(self, models: Models, name: str, source: ModelSource) -> None:
        self._models = models
        self._name = name
        self._source = source
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_changing(self) -> bool:
        """Whether versions are being loaded or dropped."""
        return self._changing.locked()

    def difference(self) -> _Difference:
        """Compares the directory with what is served.

        Raises
        ------
        ModelLoadError
            It has no version, or not one that the policy names.
        """
        chosen = self._source.version_policy.chosen(self._source.path)
        if not chosen:
            raise ModelLoadError(f"{self._source.path} has no version")
        served = {int(model.version): model for model in self._models.versions(self._name)}
        return _Difference(
            [
                served_version(self._name, self._source, number, path)
                for number, path in chosen.items()
                if number not in served
            ],
            [model for number, model in served.items() if number in chosen],
            [model for number, model in served.items() if number not in chosen],
        )

    def check_idle(self) -> None:
        """Raises RequestError 429 while versions are being loaded or dropped."""
        if self.is_changing:
            raise RequestError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"versions of model {self._name!r} are being loaded",
                {"Retry-After": "1"},
            )

    async def serve(self, model: ServedModel, config: EngineConfig | None = None) -> None:
        """Loads a new version, and serves it once it is loaded; if that fails, all stays as it is.

        A load that has begun goes on even if the client that has asked for it leaves.

        Raises
        ------
        RequestError, PaddleInferError
            It could not be loaded.
        """
        self.check_idle()
        await self._run(self._serve(model, config))

    async def drop_leaving(self) -> None:
        """Ends versions that the policy chooses no longer, once all that it chooses are served."""
        found = self.difference()
        if found.new or not any(model.ready for model in found.staying) or self.is_changing:
            return
        await self._run(self._drop(found.leaving))

    async def _run(self, change: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(change)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _serve(self, model: ServedModel, config: EngineConfig | None) -> None:
        async with self._changing:
            await self._models.load(model, config, while_serving=True)
            self._models.add(model)
        _log.info("%s is served", model.label)

    async def _drop(self, leaving: Iterable[ServedModel]) -> None:
        async with self._changing:
            for model in leaving:
                _log.info("%s is served no longer", model.label)
                await self._models.drop(model)
