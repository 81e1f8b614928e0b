"""A model that may be unloaded, as services call it: each call has it loaded, and keeps it until its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paddleinfer.errors import EngineClosed, PaddleInferError
from paddleinfer.models.spec import TensorSpec

from ..protocol.errors import RequestError

if TYPE_CHECKING:
    from .models import Models

__all__ = ["EngineOnDemand"]


class EngineOnDemand:
    """Stands where an Engine does, in functions of services on any thread or loop.

    Its calls run on the loop of the server, which loads models. What else an engine has it has while the
    model is loaded.
    """

    def __init__(self, models: Models, name: str) -> None:
        self._models = models
        self._name = name

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """As of an engine."""
        return self._models.get(self._name).inputs

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """As of an engine."""
        return self._models.get(self._name).outputs

    def infer(self, inputs: Any, **options: Any) -> Any:
        """As ``Engine.infer``, but not on the thread of the server's loop, which would wait for itself."""
        return self.submit(inputs, **options).result()

    def submit(self, inputs: Any, **options: Any) -> concurrent.futures.Future[Any]:
        """As ``Engine.submit``; the future has no ``info``."""
        loop = self._loop()
        if _runs_here(loop):
            raise PaddleInferError(
                f"a coroutine of a service calls infer or submit of {self._name!r} on the server's own event "
                "loop, which would wait for itself; await ainfer"
            )
        return asyncio.run_coroutine_threadsafe(self._ainfer(inputs, **options), loop)

    async def ainfer(self, inputs: Any, **options: Any) -> Any:
        """As ``Engine.ainfer``."""
        loop = self._loop()
        if asyncio.get_running_loop() is loop:
            return await self._ainfer(inputs, **options)
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._ainfer(inputs, **options), loop)
        )

    async def _ainfer(self, inputs: Any, *, timeout: float | None = None, **options: Any) -> Any:
        try:
            model = self._models.choose(self._name)
            with self._models.use(model) as use:
                left_s = await use.loaded(timeout, timeout)
                return await model.open_engine().ainfer(inputs, timeout=left_s, **options)
        except RequestError as error:
            raise EngineClosed(error.message) from error

    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._models.loop
        if loop is None:
            raise EngineClosed(f"model {self._name!r} is not ready: the server has not begun")
        return loop

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self._models.get(self._name).open_engine(), name)
        except RequestError as error:
            raise EngineClosed(error.message) from error


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:  # none does
        return False
