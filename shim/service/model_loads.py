"""Loads and unloads the models of a server: one change of a model after the other, and within its room."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final, TypeVar

from paddleinfer.config import EngineConfig
from paddleinfer.engine import memory
from paddleinfer.engine.engine import Engine
from paddleinfer.engine.opening import end_openings
from paddleinfer.errors import DeadlineExceeded, OutOfMemory, PaddleInferError, ThreadStartError

from ..protocol.errors import RequestError
from .daemon_thread import DaemonCalls
from .model_room import ModelRoom, NoRoomNow, Unwanted
from .model_use import ModelUse
from .served_models import ServedModel

__all__ = ["ModelLoads"]

Given = TypeVar("Given")

_log = logging.getLogger("paddleinfer.http")

# The most waiting loads and unloads of one model. Each load takes seconds, and more would change nothing.
_MOST_WAITING: Final = 8
# How long the requests of a model that makes room for another may take to end.
_DRAIN_TIMEOUT_S: Final = 30.0
_PASSING: Final = (OutOfMemory, ThreadStartError)
"""Failures of a load that say nothing about the model."""


def _are_same(one: EngineConfig | None, other: EngineConfig | None) -> bool:
    """Tells whether two configurations give the same options; what is given wins over a tuning file."""
    if one is None or other is None:
        return one is other
    return one == other and one.origins == other.origins


class ModelLoads:
    """The part of the models of a server that changes them."""

    def __init__(self) -> None:
        self.room: ModelRoom | None = None
        """The room of the models that are opened here; None: there is no limit, and no load on demand."""
        self._calls = DaemonCalls()
        self._loads: set[asyncio.Future[Any]] = set()
        self._changes: set[asyncio.Task[None]] = set()
        self._on_demand: dict[ServedModel, asyncio.Task[RequestError | None]] = {}
        self._ended = False

    def limit_memory(self, limit_bytes: int) -> None:
        """Has models loaded on demand, and the least recently used ones unloaded, within so many bytes."""
        self.room = ModelRoom(limit_bytes, self._make_way)

    def end_loads(self) -> None:
        """Ends loads under way and refuses further ones, because the server ends; call it on its loop."""
        self._ended = True
        for load in list(self._loads):
            if not load.done():
                load.set_exception(_ending())
        for change in self._on_demand.values():
            change.cancel()
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
                if self.room is not None:
                    self.room.notify()

        task = asyncio.ensure_future(changing())
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        await asyncio.shield(task)

    # Loads that requests for inference ask for

    def use(self, model: ServedModel) -> ModelUse:
        """Begins a request's use of a model; raises RequestError 503 if it accepts no requests."""
        return ModelUse(self, model)

    async def demand(self, model: ServedModel, timeout_s: float | None) -> None:
        """Returns once a model is loaded; all who ask meanwhile wait for the same load.

        Raises
        ------
        RequestError
            503: it cannot be loaded, or not now.
        DeadlineExceeded
            It was not loaded within so many seconds.
        """
        model.check_accepts()
        loading = self._on_demand.get(model)
        if loading is None or loading.done():
            loading = self._on_demand[model] = asyncio.ensure_future(self._load_on_demand(model))
        model.awaited += 1
        try:
            done, _ = await asyncio.wait((loading,), timeout=timeout_s)
        finally:
            model.awaited -= 1
            if self.room is not None:
                self.room.notify()
        if not done:
            raise DeadlineExceeded(f"the deadline passed while model {model.label!r} was being loaded")
        refusal = _ending() if loading.cancelled() else loading.result()
        if refusal is not None:
            raise RequestError(refusal.status, refusal.message, refusal.headers)

    async def awaited_load(self, model: ServedModel) -> None:
        """Returns once no request waits for a load of the model any more."""
        while model.awaited:
            loading = self._on_demand.get(model)
            if loading is None or loading.done():  # they are about to go on
                await asyncio.sleep(0)
            else:
                await asyncio.wait((loading,))

    async def _load_on_demand(self, model: ServedModel) -> RequestError | None:
        """Returns why it could not be loaded."""
        try:
            await self._change(model, functools.partial(self._load_if_awaited, model))
        except Unwanted:
            return None
        except RequestError as error:
            return error
        except _PASSING as error:
            later = {"Retry-After": "1"}
            return RequestError(HTTPStatus.SERVICE_UNAVAILABLE, f"model {model.label!r}: {error}", later)
        except Exception as error:
            unexpected = None if isinstance(error, PaddleInferError) else error
            _log.error("%s could not be loaded on demand: %s", model.label, error, exc_info=unexpected)
            return model.not_ready()
        return None

    async def _load_if_awaited(self, model: ServedModel) -> None:
        if model.is_loaded or not model.awaited:
            return
        model.check_accepts()
        await self._load(model, model.config, while_serving=True, is_wanted=lambda: model.awaited > 0)
        if self.room is not None:
            self.room.loads[model.label] += 1

    async def _make_way(self, model: ServedModel, other: ServedModel) -> bool:
        """Unloads a model for another one; tells whether its requests have ended in time."""
        gone: list[bool] = []

        async def change() -> None:
            gone.append(await self._unload_for(model, other))

        await self._change(model, change)
        return gone[0]

    async def _unload_for(self, model: ServedModel, other: ServedModel) -> bool:
        model.state, model.reason = "UNLOADING", f"it makes room for {other.label!r}"
        if not await model.unused(_DRAIN_TIMEOUT_S):
            model.state, model.reason = "READY", ""
            return False
        await self._close(model, _DRAIN_TIMEOUT_S)
        model.reason = f"unloaded to make room for {other.label!r}; the next request for it loads it"
        _log.info("%s was unloaded to make room for %s", model.label, other.label)
        return True

    # Loads and unloads

    async def load(
        self, model: ServedModel, config: EngineConfig | None = None, *, while_serving: bool = False
    ) -> None:
        """Opens it, or has an open engine load its files again; if that fails, the old model stays.

        An open engine with another `config` than this one (None: its source's) is replaced. With
        `while_serving` and ``check_load="auto"`` the load is tried in another process first.
        """
        await self._change(model, functools.partial(self._load, model, config, while_serving))

    async def _load(
        self,
        model: ServedModel,
        config: EngineConfig | None,
        while_serving: bool,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        source, before, reason = model.source, model.engine, model.reason
        is_open = before is not None and not before.closed
        wanted = config or (source.config if source is not None else None)
        if before is not None and is_open and _are_same(wanted, model.config):
            check_load = before.effective_config()["check_load"]["value"]
            async with self._counted(model, wanted or EngineConfig(), while_serving, is_wanted) as is_tried:
                if is_tried and check_load == "auto":
                    check_load = "process"
                await self._loaded(functools.partial(before.reload, check_load=check_load), lambda _: None)
            return
        if source is None:
            raise RequestError(
                HTTPStatus.BAD_REQUEST,
                f"model {model.label!r} was given as an engine, so the server cannot open it",
            )
        if not is_open:
            model.state, model.reason = "LOADING", "it is being loaded"
        opened_with = wanted or EngineConfig()
        try:
            async with self._counted(model, opened_with, while_serving, is_wanted) as is_tried:
                if is_tried and opened_with.check_load == "auto":
                    opened_with = replace(opened_with, check_load="process")
                model.engine = await self._loaded(
                    functools.partial(Engine, source.path, opened_with), Engine.close
                )
                model.config = wanted
                model.stage_log.keep((config or source.config).trace_requests)
                model.state, model.reason, model.failed = "READY", "", False
                model.loads_on_demand = self.room is not None
                if before is not None:
                    await self._calls.start(before.close)
        except Exception as error:
            if model.engine is None or model.engine.closed:
                self._note_failure(model, error, reason)
            raise

    def _note_failure(self, model: ServedModel, error: Exception, reason_before: str) -> None:
        """Says why it is not loaded; what says nothing about the model does not keep it from being tried."""
        model.state = "UNAVAILABLE"
        model.reason = reason_before if isinstance(error, Unwanted) else _why(error)
        is_passing = self.room is not None and isinstance(error, (Unwanted, NoRoomNow, *_PASSING))
        model.failed, model.loads_on_demand = not is_passing, is_passing

    @contextlib.asynccontextmanager
    async def _counted(
        self, model: ServedModel, config: EngineConfig, while_serving: bool, is_wanted: Callable[[], bool]
    ) -> AsyncIterator[bool]:
        """Has room for what the block loads; gives whether that should be tried in another process first.

        What is open already stays open meanwhile, and counts, too.
        """
        room = self.room
        if room is None or model.source is None:
            yield while_serving
            return
        load = functools.partial(memory.estimate, model.source.path, config)
        spec, size_bytes = await self._loaded(load, lambda _: None)
        was_loaded = model.config is not None and model.spec is not None and model.spec.files == spec.files
        before_bytes = room.budget.size(model)
        await room.reserve(model, before_bytes + size_bytes, waits=not before_bytes, is_wanted=is_wanted)
        model.on_use = room.budget.use
        try:
            yield while_serving and not was_loaded
        except BaseException:
            room.give_back(model, before_bytes)
            raise
        model.spec = spec
        assert model.engine is not None
        await room.settle(model, model.engine.memory_bytes)

    async def may_load_at_start(self, model: ServedModel) -> bool:
        """Tells whether there is room for it without unloading others; if not, the first request loads it.

        Raises
        ------
        ConfigError, ModelLoadError, OutOfMemory
            It could not be loaded, or would not fit if all others were unloaded.
        """
        room = self.room
        if room is None or model.source is None:
            return True
        load = functools.partial(memory.estimate, model.source.path, model.source.config)
        try:
            model.spec, size_bytes = await self._loaded(load, lambda _: None)
            room.check_fits(model, size_bytes)
        except Exception as error:
            self._note_failure(model, error, "")
            raise
        model.loads_on_demand = True
        if room.budget.lacking_bytes(size_bytes):
            model.reason = "there was no room for it at the start; the next request for it loads it"
            return False
        return True

    async def unload(self, model: ServedModel, timeout_s: float = 30.0) -> None:
        """Refuses further requests for it, lets accepted ones end, and closes it."""
        await self._change(model, functools.partial(self._unload, model, timeout_s))

    async def _unload(self, model: ServedModel, timeout_s: float) -> None:
        if model.source is None:
            raise RequestError(
                HTTPStatus.BAD_REQUEST,
                f"model {model.label!r} was given as an engine, so the server cannot close it",
            )
        model.loads_on_demand = False
        model.state, model.reason = "UNLOADING", "it is being unloaded"
        if model.engine is not None:
            end_s = asyncio.get_running_loop().time() + timeout_s
            await model.unused(timeout_s)
            await self._close(model, max(0.0, end_s - asyncio.get_running_loop().time()))
        model.state, model.reason, model.failed = "UNAVAILABLE", "unloaded", False

    async def _close(self, model: ServedModel, timeout_s: float) -> None:
        engine, model.engine = model.engine, None
        if engine is not None:
            await self._calls.start(functools.partial(engine.close, True, timeout_s))
        model.state = "UNAVAILABLE"
        if self.room is not None:
            self.room.give_back(model, 0)


def _ending() -> RequestError:
    return RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "the server is ending and loads no more models")


def _why(error: Exception) -> str:
    """Returns the reason for clients, who get no details of an unexpected error."""
    if isinstance(error, (PaddleInferError, RequestError)):
        return str(error)
    return "it could not be opened; the server's log says why"
