"""Keeps the models a server serves: their names, their sources and their states."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from itertools import chain

from paddleinfer.engine.engine import Engine
from paddleinfer.errors import PaddleInferError
from paddleinfer.sentences import listed, shown
from paddleinfer.weighted_turns import WeightedTurns

from ..protocol.errors import RequestError
from .model_loads import ModelLoads
from .served_models import ModelSource, Served, ServedModel, served_under
from .version_changes import VersionChanges

__all__ = ["Models", "unknown_model"]

_log = logging.getLogger("paddleinfer.http")


def unknown_model(name: str, known: Iterable[str]) -> RequestError:
    """The 404 of a name that is not among those that are served."""
    # Clients of Triton look for the first words.
    return RequestError(
        HTTPStatus.NOT_FOUND, f"Request for unknown model {shown(name)}; the server has {listed(known)}"
    )


class Models(ModelLoads):
    """All models of one server, by name and version."""

    def __init__(self, served: Iterable[ServedModel]) -> None:
        super().__init__()
        self._served: dict[str, list[ServedModel]] = {}  # of each name, the highest version last
        for model in served:
            self._served.setdefault(model.name, []).append(model)
        self._splits = {
            name: WeightedTurns(len(variants))
            for name, variants in self._served.items()
            if variants[0].weight is not None
        }
        self._of_services: dict[str, ServedModel] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop of the server, once it has begun to load them."""
        self._leaving: set[ServedModel] = set()
        self.version_changes: dict[str, VersionChanges] = {}
        """Of each model whose directory has versions."""

    @classmethod
    def of(cls, engines: Mapping[str, Served]) -> Models:
        """Takes open engines, or sources to open them from; several sources of one name are its variants.

        Raises
        ------
        ConfigError
            A name cannot stand in a URL, or a value is neither of these.
        ModelLoadError
            A version that is to be served is not there.
        """
        models = cls([model for name, given in engines.items() for model in served_under(name, given)])
        for name, given in engines.items():
            if isinstance(given, ModelSource) and given.version_policy.chosen(given.path):
                models.version_changes[name] = VersionChanges(models, name, given)
        return models

    def __iter__(self) -> Iterator[ServedModel]:
        """Every version of every model."""
        return chain.from_iterable(self._served.values())

    @property
    def names(self) -> list[str]:
        """The names of all models."""
        return list(self._served)

    def add_service(self, name: str, engine: Engine) -> None:
        """Serves under this name what stands for a service, beside the models that have files."""
        self._of_services[name] = ServedModel(name, None, engine, state="READY", reason="", is_service=True)

    def with_services(self) -> list[ServedModel]:
        """The models, and the services that are models over the Open Inference Protocol."""
        return [*self, *self._of_services.values()]

    def find(self, name: str) -> ServedModel | None:
        """Returns the model of this name, or None; see ``get``."""
        return self.get(name) if name in self._served else None

    def versions(self, name: str) -> list[ServedModel]:
        """Returns a model's versions, the highest last; raises RequestError 404 if it is not served."""
        versions = self._served.get(name)
        if versions is not None:
            return versions
        if name in self._of_services:
            return [self._of_services[name]]
        raise unknown_model(name, [*self._served, *self._of_services])

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """Returns this version of a model; without one the highest that is ready, else the highest.

        Raises RequestError 404 for a name or version that is not served.
        """
        versions = self.versions(name)
        if version in (None, ""):
            if len(versions) == 1:
                return versions[0]
            return next((model for model in reversed(versions) if model.ready), versions[-1])
        for model in versions:
            if model.version == version:
                return model
        known = listed([model.version for model in versions])
        raise RequestError(
            HTTPStatus.NOT_FOUND, f"model {name!r} has no version {shown(version)}; it has {known}"
        )

    def choose(self, name: str, version: str | None = None) -> ServedModel:
        """Does what ``get`` does for a request to infer; variants take turns by their weights."""
        split = self._splits.get(name) if version in (None, "") else None
        return self.get(name, version) if split is None else split.next(self._served[name])

    def sole(self) -> str:
        """The name of the only model; raises RequestError 404 where there are several."""
        if len(self._served) != 1:
            raise RequestError(
                HTTPStatus.NOT_FOUND,
                f"this is for one model, and the server has {listed(self._served)}; ask by /NAME/prediction",
            )
        (name,) = self._served
        return name

    @property
    def ready(self) -> bool:
        """Whether every model that should serve takes requests.

        A model that was unloaded on purpose or could not be opened does not count: the others are useful
        without it.
        """
        return all(model.ready or model.failed or model.reason == "unloaded" for model in self)

    def opened(self) -> list[tuple[ServedModel, Engine]]:
        """Returns the models that have an engine, with it."""
        return [(model, model.engine) for model in self if model.engine is not None]

    def counted(self) -> list[tuple[ServedModel, Engine]]:
        """The same, and services that are models: what has Triton's statistics."""
        return [(model, model.engine) for model in self.with_services() if model.engine is not None]

    async def load_all(self, say: Callable[[ServedModel], None] = lambda model: None) -> None:
        """Opens every source that is not open, one after the other; with a limit of memory, those that fit.

        A model that cannot be opened is not ready, and the log says why. If no model is open in the end,
        the first failure is raised.
        """
        self.loop = asyncio.get_running_loop()
        failures = []
        # Pinned ones first: nothing makes room for others yet.
        for model in sorted(self, key=lambda model: model.source is None or not model.source.pinned):
            if self._ended:
                return
            if model.source is None or model.engine is not None:
                continue
            try:
                if await self.may_load_at_start(model):
                    await self.load(model)
            except Exception as error:
                if self._ended:
                    return
                failures.append(error)
                unexpected = None if isinstance(error, PaddleInferError) else error
                if sum(1 for _ in self) > 1:
                    _log.error("%s is not served: %s", model.label, model.reason, exc_info=unexpected)
            else:
                say(model)
        if failures and not self.opened():
            raise failures[0]

    def add(self, model: ServedModel) -> None:
        """Serves a version that is loaded beside those of its model."""
        versions = self._served[model.name]
        versions.append(model)
        versions.sort(key=lambda one: int(one.version))

    async def drop(self, model: ServedModel) -> None:
        """Serves a version no longer: new requests go to others, and it is closed once its own have ended."""
        self._served[model.name].remove(model)
        model.dropped = True
        self._leaving.add(model)
        try:
            await self.awaited_load(model)
            await self.unload(model)
        finally:
            self._leaving.discard(model)

    async def close(self, timeout_s: float) -> None:
        """Closes the engines that were opened here, all at once."""
        for change in (*self._changes, *self._on_demand.values()):
            change.cancel()
        closing = []
        for model in chain(self, self._leaving):
            if model.source is not None and model.engine is not None:
                closing.append(self._calls.start(functools.partial(model.engine.close, True, timeout_s)))
                model.engine, model.config = None, None
                model.state, model.reason = "UNAVAILABLE", "the application has ended"
        await asyncio.gather(*closing)
