"""Keeps the models a server serves: their names, their sources and their states."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeVar

from paddleinfer.config import EngineConfig
from paddleinfer.engine.engine import Engine
from paddleinfer.engine.opening import end_openings
from paddleinfer.errors import ConfigError, PaddleInferError
from paddleinfer.sentences import listed, shown

from ..protocol.errors import RequestError
from .daemon_thread import DaemonCalls
from .latencies import Latencies
from .stage_log import StageLog

__all__ = ["VERSION", "ModelSource", "Models", "ServedModel", "check_name"]

Given = TypeVar("Given")

_log = logging.getLogger("paddleinfer.http")

VERSION: Final = "1"
"""The version that the protocol requires. Each name has one model at a time; its generation counts loads."""

# The most waiting loads and unloads of one model. Each load takes seconds, and more would change nothing.
_MOST_WAITING: Final = 8

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


def check_name(name: str) -> str:
    """Returns the name if a URL can contain it; raises ConfigError otherwise."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise ConfigError(
            f"a model's name is made of letters, digits, '.', '_' and '-', which {shown(name)} is not"
        )
    if name == "stats":
        raise ConfigError("a model cannot be named 'stats': /v2/models/stats is the statistics of all")
    return name


@dataclass(frozen=True)
class ModelSource:
    """A model's path and options; the model is opened and closed with the server."""

    path: Path
    """The path that ``Engine`` gets."""
    config: EngineConfig = field(default_factory=EngineConfig)
    """The options of its engine."""


@dataclass
class ServedModel:
    """One model of the server, by its name."""

    name: str
    source: ModelSource | None
    """The source; None for an engine that was given open, and that its owner closes."""
    engine: Engine | None = None
    state: str = "UNAVAILABLE"
    """The state in Triton's repository index: LOADING, READY, UNLOADING or UNAVAILABLE."""
    reason: str = "not loaded yet"
    failed: bool = False
    """Whether it could not be opened at the start: the others are served, and nobody waits for it."""
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """The lock that is held while it is loaded or unloaded."""
    is_service: bool = False
    """Its engine stands for a service, which is neither loaded nor traced."""
    waiting: int = 0
    """How many requests wait to load or unload it."""
    stage_log: StageLog = field(default_factory=StageLog)
    config: EngineConfig | None = None
    """The configuration of an engine that was opened here: the source's, or a client's."""
    latencies: Latencies = field(default_factory=Latencies)
    """The durations of requests with a result, over HTTP and gRPC, from last byte to answer."""

    @property
    def ready(self) -> bool:
        """Whether it accepts requests."""
        return self.engine is not None and self.state == "READY" and not self.engine.closed

    def open_engine(self) -> Engine:
        """Returns the engine; raises RequestError 503 while there is none."""
        if self.engine is None or self.state != "READY":
            raise RequestError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"model {self.name!r} is not ready: {self.reason}"
            )
        return self.engine


class Models:
    """All models of one server, by name."""

    def __init__(self, served: Iterable[ServedModel]) -> None:
        self._served = {model.name: model for model in served}
        self._of_services: dict[str, ServedModel] = {}
        self._calls = DaemonCalls()
        self._loads: set[asyncio.Future[Any]] = set()
        self._changes: set[asyncio.Task[None]] = set()
        self._ended = False

    @classmethod
    def of(cls, engines: Mapping[str, Engine | ModelSource]) -> Models:
        """Takes open engines, or sources to open them from.

        Raises
        ------
        ConfigError
            A name cannot stand in a URL, or a value is neither of these.
        """
        served = []
        for name, given in engines.items():
            check_name(name)
            if isinstance(given, ModelSource):
                served.append(ServedModel(name, given))
            elif isinstance(given, Engine):
                served.append(ServedModel(name, None, given, "READY", ""))
            else:
                raise ConfigError(f"model {name!r} must be an Engine or a ModelSource, not {given!r}")
        return cls(served)

    def __iter__(self) -> Any:
        return iter(self._served.values())

    def add_service(self, name: str, engine: Engine) -> None:
        """Serves under this name what stands for a service, beside the models that have files."""
        self._of_services[name] = ServedModel(name, None, engine, "READY", "", is_service=True)

    def with_services(self) -> list[ServedModel]:
        """The models, and the services that are models over the Open Inference Protocol."""
        return [*self._served.values(), *self._of_services.values()]

    def find(self, name: str) -> ServedModel | None:
        """Returns the model of this name, or None."""
        return self._served.get(name)

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """Returns the model; raises RequestError 404 for a name or version that is not served."""
        model = self._served.get(name) or self._of_services.get(name)
        if model is None:
            # Clients of Triton look for the first words.
            raise RequestError(
                HTTPStatus.NOT_FOUND,
                f"Request for unknown model {shown(name)}; "
                f"the server has {listed(model.name for model in self.with_services())}",
            )
        if version not in (None, "", VERSION):
            raise RequestError(
                HTTPStatus.NOT_FOUND, f"model {name!r} has no version {shown(version)}, only {VERSION!r}"
            )
        return model

    def sole(self) -> str:
        """The name of the only model; raises RequestError 404 where there are several."""
        if len(self._served) != 1:
            raise RequestError(
                HTTPStatus.NOT_FOUND,
                f"the server has several models, {listed(self._served)}; ask one by /NAME/prediction",
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
                if len(self._served) > 1:
                    _log.error("%s is not served: %s", model.name, model.reason, exc_info=unexpected)
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
                f"{model.waiting} requests to load or unload model {model.name!r} wait, which is the most",
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
                f"model {model.name!r} was given as an engine, so the server cannot open it",
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
                f"model {model.name!r} was given as an engine, so the server cannot close it",
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
