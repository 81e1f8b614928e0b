"""Keeps what a server's models take in memory within a limit: others are unloaded before one is loaded."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus

from paddleinfer.errors import ModelLoadError

from ..protocol.errors import RequestError
from .memory_budget import MemoryBudget
from .served_models import ServedModel

__all__ = ["ModelRoom", "NoRoomNow", "Unwanted"]

_log = logging.getLogger("paddleinfer.http")


class NoRoomNow(RequestError):
    """Others cannot be unloaded at the moment; 503, and the same may succeed later."""

    def __init__(self, message: str) -> None:
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, message, {"Retry-After": "1"})


class Unwanted(Exception):
    """Whoever waited for a load has left before it began."""


class ModelRoom:
    """Room for the models that a server has opened.

    Parameters
    ----------
    limit_bytes
        What all of them together may take.
    unload
        Unloads the first model, which makes room for the second; tells whether it did. It lets requests end
        before.
    """

    def __init__(
        self, limit_bytes: int, unload: Callable[[ServedModel, ServedModel], Awaitable[bool]]
    ) -> None:
        self.budget: MemoryBudget[ServedModel] = MemoryBudget(limit_bytes)
        self._unload = unload
        self._turn = asyncio.Lock()
        """Whoever holds it unloads others, and waits for nothing but their requests."""
        self._changed = asyncio.Event()
        self.loads: Counter[str] = Counter()
        """Label of a model -> how often a request has had it loaded."""
        self.unloads: Counter[str] = Counter()
        """Label of a model -> how often it has made room for another one."""

    def check_fits(self, model: ServedModel, size_bytes: int) -> None:
        """Raises ModelLoadError for a model that would not fit if all others were unloaded."""
        most = self.budget.most_bytes([other for other in self._loaded() if _is_pinned(other, model)])
        if size_bytes > most:
            limit = f"max_loaded_bytes allows {self.budget.limit_bytes}"
            beside = "" if most == self.budget.limit_bytes else f", of which pinned models leave {most}"
            is_open = self.budget.size(model) > 0
            twice = " with what is loaded of it until then" if is_open else ""
            hint = "; unload it first" if is_open else ""
            raise ModelLoadError(
                f"model {model.label!r} takes an estimated {size_bytes} bytes{twice}, "
                f"and {limit}{beside}{hint}"
            )

    async def reserve(
        self, model: ServedModel, size_bytes: int, *, waits: bool, is_wanted: Callable[[], bool]
    ) -> None:
        """Makes room for a model, and counts it with so many bytes from then on.

        A model that is open takes part of its bytes already. It does not wait for others that are being
        loaded, because these may wait for it.

        Raises
        ------
        ModelLoadError
            It would not fit if all others were unloaded.
        RequestError
            503: others cannot be unloaded now.
        Unwanted
            By `is_wanted` nobody waits for it any more, and nothing was unloaded for it.
        """
        self.check_fits(model, size_bytes)
        still_in_use: set[ServedModel] = set()
        while True:
            async with self._turn:
                if not is_wanted():
                    raise Unwanted
                if await self._make_room(model, size_bytes, still_in_use):
                    self.budget.count(model, size_bytes)
                    return
            if still_in_use or not waits:
                others = ", ".join(sorted(other.label for other in still_in_use)) or "the others"
                raise NoRoomNow(
                    f"model {model.label!r} takes an estimated {size_bytes} bytes, and there is no room now "
                    f"within max_loaded_bytes: {others} cannot be unloaded at the moment"
                )
            self._changed.clear()
            await self._changed.wait()

    async def settle(self, model: ServedModel, size_bytes: int) -> None:
        """Counts a model with what it takes once it is loaded."""
        self.budget.count(model, size_bytes)
        if self.budget.lacking_bytes(0):
            await self._trim(model, size_bytes)
        self.notify()

    async def _trim(self, model: ServedModel, size_bytes: int) -> None:
        async with self._turn:
            if not await self._make_room(model, size_bytes, set()):
                _log.warning(
                    "%s takes %d bytes, which was not to be seen before; the models together take %d, and "
                    "max_loaded_bytes is %d",
                    *(model.label, size_bytes, self.budget.loaded_bytes, self.budget.limit_bytes),
                )

    def give_back(self, model: ServedModel, size_bytes: int) -> None:
        """Counts a model with what it took before a load that has failed, or with 0 once it is unloaded."""
        if size_bytes:
            self.budget.count(model, size_bytes)
        else:
            self.budget.discard(model)
        self.notify()

    def notify(self) -> None:
        """Has those look again who wait for models that can be unloaded."""
        self._changed.set()

    async def _make_room(self, model: ServedModel, size_bytes: int, still_in_use: set[ServedModel]) -> bool:
        """Unloads others until there is room; adds those whose requests do not end to `still_in_use`."""
        while True:
            more_bytes = size_bytes - self.budget.size(model)
            loaded = list(self._loaded())
            kept = {other for other in loaded if other is model or _is_pinned(other, model) or other.is_kept}
            busy = {other for other in loaded if other.in_use}
            victims = self.budget.victims(more_bytes, kept | still_in_use, busy)
            if not victims:
                return victims is not None
            victim = victims[0]  # meanwhile another may be kept
            if await self._unload(victim, model):
                self.unloads[victim.label] += 1
            else:
                still_in_use.add(victim)

    def _loaded(self) -> Iterator[ServedModel]:
        return iter(self.budget)


def _is_pinned(other: ServedModel, model: ServedModel) -> bool:
    return other is not model and other.source is not None and other.source.pinned
