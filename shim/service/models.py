"""The models a server serves: under which name, from where, and in which state."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from paddleinfer.config import EngineConfig
from paddleinfer.engine import Engine
from paddleinfer.errors import ConfigError

from .errors import RequestError, status_of
from .latencies import Latencies
from .stage_log import StageLog

__all__ = ["VERSION", "ModelSource", "Models", "ServedModel", "check_name"]

_log = logging.getLogger("paddleinfer.http")

VERSION: Final = "1"
"""The protocol wants a version. Each name has one model at a time; which, its generation counts."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


def check_name(name: str) -> str:
    """The name, if it can stand in a URL; raises ConfigError otherwise."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise ConfigError(
            f"a model's name is made of letters, digits, '.', '_' and '-', which {name!r} is not"
        )
    if name == "stats":
        raise ConfigError("a model cannot be named 'stats': /v2/models/stats is the statistics of all")
    return name


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from, and how it is run; opened and closed with the server."""

    path: Path
    config: EngineConfig = field(default_factory=EngineConfig)


@dataclass
class ServedModel:
    """One name of the server."""

    name: str
    source: ModelSource | None
    """None: an engine that was given open, and that its giver closes."""
    engine: Engine | None = None
    state: str = "UNAVAILABLE"
    """As Triton's repository index has it: LOADING, READY, UNLOADING or UNAVAILABLE."""
    reason: str = "not loaded yet"
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it is loaded or unloaded."""
    stage_log: StageLog = field(default_factory=StageLog)
    config: EngineConfig | None = None
    """Of an engine that was opened here: the source's, or what a client loaded it with."""
    latencies: Latencies = field(default_factory=Latencies)
    """Of requests with a result, over HTTP and gRPC, from their last byte to their answer."""

    @property
    def ready(self) -> bool:
        """Whether it takes requests."""
        return self.engine is not None and self.state == "READY" and not self.engine.closed

    def open_engine(self) -> Engine:
        """The engine; raises RequestError 503 while there is none."""
        if self.engine is None or self.state != "READY":
            raise RequestError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"model {self.name!r} is not ready: {self.reason}"
            )
        return self.engine


class Models:
    """All models of one server, by name."""

    def __init__(self, served: Iterable[ServedModel]) -> None:
        self._served = {model.name: model for model in served}

    @classmethod
    def of(cls, engines: Mapping[str, Engine | ModelSource]) -> Models:
        """Open engines, or where to open them from.

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

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """Raises RequestError 404 for a name or version that is not served."""
        model = self._served.get(name)
        if model is None:
            names = ", ".join(self._served) or "none"
            # Clients of Triton look for the first words.
            raise RequestError(
                HTTPStatus.NOT_FOUND, f"Request for unknown model {name!r}; the server has {names}"
            )
        if version not in (None, "", VERSION):
            raise RequestError(
                HTTPStatus.NOT_FOUND, f"model {name!r} has no version {version!r}, only {VERSION!r}"
            )
        return model

    @property
    def ready(self) -> bool:
        """Whether every model takes requests. One that was unloaded on purpose does not count."""
        return all(model.ready or model.reason == "unloaded" for model in self)

    def opened(self) -> list[tuple[ServedModel, Engine]]:
        """Those that have an engine, with it."""
        return [(model, model.engine) for model in self if model.engine is not None]

    async def load_all(self, say: Callable[[ServedModel], None] = lambda model: None) -> None:
        """Opens every source that is not open, one after the other; raises what the first failure raised."""
        for model in self:
            if model.source is not None and model.engine is None:
                await self.load(model)
                say(model)

    async def load(self, model: ServedModel, config: EngineConfig | None = None) -> None:
        """Opens it, or has an open engine load its files again; on failure what was there stays.

        An open engine of another `config` than this one (None: its source's) is replaced.
        """
        async with model.changing:
            source, before = model.source, model.engine
            is_open = before is not None and not before.closed
            wanted = config or (source.config if source is not None else None)
            if before is not None and is_open and wanted == model.config:
                await asyncio.to_thread(before.reload)
                return
            if source is None:
                raise RequestError(
                    HTTPStatus.BAD_REQUEST,
                    f"model {model.name!r} was given as an engine, which is not ours to open",
                )
            if not is_open:
                model.state, model.reason = "LOADING", "it is being loaded"
            try:
                model.engine = await asyncio.to_thread(Engine, source.path, wanted)
            except Exception as error:
                if not is_open:
                    model.state, model.reason = "UNAVAILABLE", status_of(error).message
                raise
            model.config = wanted
            model.stage_log.keep((config or source.config).trace_requests)
            model.state, model.reason = "READY", ""
            if before is not None:
                await asyncio.to_thread(before.close)

    async def unload(self, model: ServedModel, timeout_s: float = 30.0) -> None:
        """Takes no more requests for it, lets accepted ones end, and closes it."""
        async with model.changing:
            if model.source is None:
                raise RequestError(
                    HTTPStatus.BAD_REQUEST,
                    f"model {model.name!r} was given as an engine, and is not ours to close",
                )
            engine, model.engine = model.engine, None
            model.state, model.reason = "UNLOADING", "it is being unloaded"
            if engine is not None:
                await asyncio.to_thread(engine.close, True, timeout_s)
            model.state, model.reason = "UNAVAILABLE", "unloaded"

    async def close(self, timeout_s: float) -> None:
        """Closes the engines that were opened here, all at once."""
        closing = []
        for model in self:
            if model.source is not None and model.engine is not None:
                closing.append(asyncio.to_thread(model.engine.close, True, timeout_s))
                model.engine, model.config = None, None
                model.state, model.reason = "UNAVAILABLE", "the application has ended"
        await asyncio.gather(*closing)
