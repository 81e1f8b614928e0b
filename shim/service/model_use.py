"""The use that one request makes of a model, which is loaded if it is not, and stays loaded until the end."""

from __future__ import annotations

import asyncio
from typing import Protocol

from .served_models import ServedModel

__all__ = ["ModelUse"]


class Loads(Protocol):
    """What loads models."""

    async def demand(self, model: ServedModel, timeout_s: float | None) -> None:
        """Returns once the model is loaded; raises RequestError or DeadlineExceeded."""


class ModelUse:
    """It begins as the request is decoded, and ends as its results are encoded.

    Raises
    ------
    RequestError
        503: the model accepts no requests.
    """

    __slots__ = ("_holds", "_loads", "_model")

    def __init__(self, loads: Loads, model: ServedModel) -> None:
        self._loads = loads
        self._model = model
        self._holds = model.hold()
        if not self._holds:
            model.check_accepts()

    def __enter__(self) -> ModelUse:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Lets go of the model; calling it again does nothing."""
        if self._holds:
            self._holds = False
            self._model.let_go()

    async def loaded(self, asked_s: float | None, remaining_s: float | None = None) -> float | None:
        """Returns once the model is loaded, with the seconds that the request has left; None: any number.

        Parameters
        ----------
        asked_s
            The seconds that the request gives itself; None: those of the model's options.
        remaining_s
            The seconds that the protocol leaves it.

        Raises
        ------
        RequestError
            503: the model cannot be loaded, or not now.
        DeadlineExceeded
            The request has no time left.
        """
        if self._holds:
            return remaining_s
        limits = (asked_s if asked_s is not None else self._model.default_timeout_s, remaining_s)
        timeout_s = min((limit for limit in limits if limit is not None), default=None)
        time_s = asyncio.get_running_loop().time
        end_s = None if timeout_s is None else time_s() + timeout_s
        while not self._holds:
            await self._loads.demand(self._model, None if end_s is None else max(0.0, end_s - time_s()))
            self._holds = self._model.hold()
        return None if end_s is None else max(0.0, end_s - time_s())
