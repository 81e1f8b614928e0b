"""Keeps the models a server serves: their names, their sources and their states."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from itertools import chain
from typing import Any, Final, TypeVar

from paddleinfer.config import EngineConfig
from paddleinfer.engine.engine import Engine
from paddleinfer.engine.opening import end_openings
from paddleinfer.errors import PaddleInferError
from paddleinfer.sentences import listed, shown
from paddleinfer.weighted_turns import WeightedTurns

from ..protocol.errors import RequestError
from .daemon_thread import DaemonCalls
from .served_models import Served, ServedModel, served_under

__all__ = ["Models"]

Given = TypeVar("Given")

_log = logging.getLogger("paddleinfer.http")

# The most waiting loads and unloads of one model. Each load takes seconds, and more would change nothing.
_MOST_WAITING: Final = 8


class Models:
    """All models of one server, by name and version."""

    def __init__(self, served: Iterable[ServedModel]) -> None:
        self._served: dict[str, list[ServedModel]] = {}  # of each name, the highest version last
        for model in served:
            self._served.setdefault(model.name, []).append(model)
        self._splits = {
            name: WeightedTurns(len(variants))
            for name, variants in self._served.items()
            if variants[0].weight is not None
        }
        self._of_services: dict[str, ServedModel] = {}
        self._calls = DaemonCalls()
        self._loads: set[asyncio.Future[Any]] = set()
        self._changes: set[asyncio.Task[None]] = set()
        self._ended = False

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
        return cls([model for name, given in engines.items() for model in served_under(name, given)])

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
        # Clients of Triton look for the first words.
        raise RequestError(
            HTTPStatus.NOT_FOUND,
            f"Request for unknown model {shown(name)}; "
            f"the server has {listed([*self._served, *self._of_services])}",
        )

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
        """Opens every source that is not open, one after the other.

        A model that cannot be opened is not ready, and the log says why. If no model is open in the end,
        the first failure is raised.
        """
        failures = []
        for model in self:
            if self._ended:
                return
            if model.source is None or model.engine is not None:
                continue
            try:
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

    def end_loads(self) -> None:
        """Ends loads under way and refuses further ones, because the server ends; call it on its loop."""
        self._ended = True
        for load in list(self._loads):
            if not load.done():
                load.set_exception(_ending())
        end_openings()

    @property
    def under_way(self) -> bool:
        """Whether an engine is being opened or closed on a thread that has not returned."""
        return self._calls.under_way

    async def _loaded(self, load: Callable[[], Given], forgo: Callable[[Given], object]) -> Given:
        if self._ended:
            raise _ending()
        future = self._calls.start(load, forgo)
        self._loads.add(future)
        try:
            return await future
        finally:
            self._loads.discard(future)

    def check_room(self, model: ServedModel) -> None:
        """Raises RequestError 429 if too many loads and unloads of the model wait already."""
        if model.waiting >= _MOST_WAITING:
            raise RequestError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{model.waiting} requests to load or unload model {model.label!r} wait, which is the most",
                {"Retry-After": "1"},
            )

    async def _change(self, model: ServedModel, change: Callable[[], Awaitable[None]]) -> None:
        """Runs changes one after the other. A change that has begun goes on even if its client leaves."""
        model.waiting += 1
        try:
            await model.changing.acquire()
        finally:
            model.waiting -= 1

        async def changing() -> None:
            try:
                await change()
            finally:
                model.changing.release()

        task = asyncio.ensure_future(changing())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        await asyncio.shield(task)

    async def load(
        self, model: ServedModel, config: EngineConfig | None = None, *, while_serving: bool = False
    ) -> None:
        """Opens it, or has an open engine load its files again; if that fails, the old model stays.

        An open engine with another `config` than this one (None: its source's) is replaced. With
        `while_serving` and ``check_load="auto"`` the load is tried in another process first.
        """
        await self._change(model, functools.partial(self._load, model, config, while_serving))

    async def _load(self, model: ServedModel, config: EngineConfig | None, while_serving: bool) -> None:
        source, before = model.source, model.engine
        is_open = before is not None and not before.closed
        wanted = config or (source.config if source is not None else None)
        if before is not None and is_open and wanted == model.config:
            check_load = before.effective_config()["check_load"]["value"]
            if while_serving and check_load == "auto":
                check_load = "process"
            reload = functools.partial(before.reload, check_load=check_load)
            await self._loaded(reload, lambda _: None)
            return
        if source is None:
            raise RequestError(
                HTTPStatus.BAD_REQUEST,
                f"model {model.label!r} was given as an engine, so the server cannot open it",
            )
        if not is_open:
            model.state, model.reason = "LOADING", "it is being loaded"
        try:
            opened_with = wanted or EngineConfig()
            if while_serving and opened_with.check_load == "auto":
                opened_with = replace(opened_with, check_load="process")
            model.engine = await self._loaded(
                functools.partial(Engine, source.path, opened_with), Engine.close
            )
        except Exception as error:
            if not is_open:
                model.state, model.reason, model.failed = "UNAVAILABLE", _why(error), True
            raise
        model.config = wanted
        model.stage_log.keep((config or source.config).trace_requests)
        model.state, model.reason, model.failed = "READY", "", False
        if before is not None:
            await self._calls.start(before.close)

    async def unload(self, model: ServedModel, timeout_s: float = 30.0) -> None:
        """Refuses further requests for it, lets accepted ones end, and closes it."""
        await self._change(model, functools.partial(self._unload, model, timeout_s))

    async def _unload(self, model: ServedModel, timeout_s: float) -> None:
        if model.source is None:
            raise RequestError(
                HTTPStatus.BAD_REQUEST,
                f"model {model.label!r} was given as an engine, so the server cannot close it",
            )
        engine, model.engine = model.engine, None
        model.state, model.reason = "UNLOADING", "it is being unloaded"
        if engine is not None:
            await self._calls.start(functools.partial(engine.close, True, timeout_s))
        model.state, model.reason, model.failed = "UNAVAILABLE", "unloaded", False

    async def close(self, timeout_s: float) -> None:
        """Closes the engines that were opened here, all at once."""
        for change in self._changes:
            change.cancel()
        closing = []
        for model in self:
            if model.source is not None and model.engine is not None:
                closing.append(self._calls.start(functools.partial(model.engine.close, True, timeout_s)))
                model.engine, model.config = None, None
                model.state, model.reason = "UNAVAILABLE", "the application has ended"
        await asyncio.gather(*closing)


def _ending() -> RequestError:
    return RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "the server is ending and loads no more models")


def _why(error: Exception) -> str:
    """Returns the reason for clients, who get no details of an unexpected error."""
    if isinstance(error, PaddleInferError):
        return str(error)
    return "it could not be opened; the server's log says why"
