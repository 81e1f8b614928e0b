"""The class whose instances are the replicas of a deployment of Ray Serve: one engine each."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from paddleinfer.config import EngineConfig
from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError, DeadlineExceeded, EngineClosed, InvalidInput
from paddleinfer.ray.grpc import GrpcMethods
from paddleinfer.ray.http import Request, ServerRoutes
from paddleinfer.sentences import shown

__all__ = ["CLOSE_TIMEOUT_S", "EngineReplica", "check_user_config"]

CLOSE_TIMEOUT_S = 5.0
"""Serve has waited for the replica's requests when it ends the replica, so this limits a run that hangs."""

_USER_OPTIONS = ("path", "load")


class EngineReplica(GrpcMethods):
    """One replica. Serve calls all of its methods; those of callers are ``__call__`` and ``stats``."""

    _engine: Engine | None = None

    def __init__(self, path: str, config: EngineConfig, name: str, http: Mapping[str, Any]) -> None:
        self._engine = engine = self._load(path, config)
        self._path = path
        self._applied: Mapping[str, Any] = {}
        self._routes = ServerRoutes(name, engine, http)

    # Of callers

    async def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        deadline_unix_s: float | None = None,
        outputs: Sequence[str] | None = None,
        priority: int = 1,
        return_info: bool = False,
    ) -> Any:
        """Runs the model on one request, which shares batches with all others of this replica.

        Parameters
        ----------
        request
            What ``Engine.infer`` takes. Serve itself passes a request over HTTP, which is answered as
            ``paddleinfer-http`` would.
        timeout
            Seconds from the arrival at this replica to the result.
        deadline_unix_s
            When the result is of no use any more, as ``time.time()`` gives it. Unlike a timeout it also
            covers the way here and the wait in Serve's router, and a deployment can pass it on to the next.
        outputs, priority, return_info
            As of ``Engine.infer``.

        Returns
        -------
        dict
            Name -> array, as of ``Engine.infer``.

        Raises
        ------
        InvalidInput, QueueFull, DeadlineExceeded, ModelError, EngineClosed
            As of ``Engine.infer``. For callers it is at the same time a RayTaskError.
        """
        if isinstance(request, Request):
            return self._routes.answer(request)
        if deadline_unix_s is not None:
            timeout = _sooner(timeout, deadline_unix_s)
        return await self._open().ainfer(
            request, timeout=timeout, outputs=outputs, priority=priority, return_info=return_info
        )

    async def infer_together(self, requests: Sequence[tuple[Any, Mapping[str, Any]]]) -> list[Any]:
        """Runs several requests, each for itself; what a ``CoalescingHandle`` calls.

        Parameters
        ----------
        requests
            The request and the keywords of each, as ``__call__`` takes them.

        Returns
        -------
        list
            Of each the result, or its error.
        """
        calls = [self(request, **options) for request, options in requests]
        return await asyncio.gather(*calls, return_exceptions=True)

    def stats(self) -> dict[str, Any]:
        """``Engine.stats()`` of whichever replica Serve chooses."""
        return self._open().stats()

    # Of Serve

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Loads another model, or the same one anew, while requests go on; see ``Engine.reload``.

        Parameters
        ----------
        user_config
            "path" is the model to serve; without it the one in service is read again. Any change of "load"
            also reads the files again.

        Raises
        ------
        ConfigError, ModelLoadError, ModelError
            As of ``Engine.reload``. Serve then replaces the replica.
        """
        check_user_config(user_config)
        before, self._applied = self._applied, dict(user_config)
        path = str(user_config.get("path", self._path))
        # Serve calls this right after it made the replica, which has just read the files.
        if path == self._path and (not before or before == self._applied):
            return
        await asyncio.to_thread(self._open().reload, path)
        self._path = path

    def check_health(self) -> None:
        """Raises EngineClosed if no request can succeed any more; Serve then replaces the replica."""
        self._open()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What ``replicas_for_load`` decides by: the fields of ``Engine.scaling_signals()``."""
        return dataclasses.asdict(self._open().scaling_signals())

    def __del__(self) -> None:
        """Serve calls this when the replica's requests are over, or its time is."""
        if self._engine is not None:
            self._engine.close(drain=True, timeout=CLOSE_TIMEOUT_S)

    def _load(self, path: str, config: EngineConfig) -> Engine:
        return Engine(path, config)

    def _open(self) -> Engine:
        if self._engine is None or self._engine.closed:
            raise EngineClosed("the engine of this replica is closed")
        return self._engine


def check_user_config(user_config: object) -> None:
    """Raises ConfigError if this is no ``user_config`` of a deployment."""
    if not isinstance(user_config, Mapping) or not all(name in _USER_OPTIONS for name in user_config):
        raise ConfigError(f'user_config must be a dict of "path" and "load", not {shown(user_config)}')


def _sooner(timeout: float | None, deadline_unix_s: float) -> float:
    """The seconds that are left.

    Raises
    ------
    InvalidInput
        The deadline is no number.
    DeadlineExceeded
        None are left.
    """
    if not isinstance(deadline_unix_s, int | float) or isinstance(deadline_unix_s, bool):
        raise InvalidInput(
            f"deadline_unix_s must be seconds as time.time() gives them, not {shown(deadline_unix_s)}"
        )
    left_s = deadline_unix_s - time.time()
    if not left_s > 0:
        raise DeadlineExceeded("the deadline had passed when the request reached its replica", shed=True)
    return left_s if timeout is None else min(timeout, left_s)
