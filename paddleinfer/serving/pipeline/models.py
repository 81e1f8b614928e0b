"""The model of an Op: an engine of this process, or servers that have it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from paddleinfer.engine.engine import Engine
from paddleinfer.errors import ConfigError, ModelError
from paddleinfer.sentences import listed
from paddleinfer.serve.engines import EngineOfService
from paddleinfer.serve.run import CURRENT
from paddleinfer.serving.client import Client
from paddleinfer.serving.formats.feeds import engine_inputs, wanted_names

__all__ = ["ClientModel", "EngineModel", "OpModel"]

_log = logging.getLogger("paddleinfer.serving")


class OpModel(Protocol):
    """What an Op runs between its two functions."""

    def run(self, feed: Mapping[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """The outputs for one dict, of arrays with their batch axis.

        Raises
        ------
        InvalidInput, ModelError, DeadlineExceeded, QueueFull, EngineClosed
            As of ``Engine.infer``.
        """

    def submit(
        self, feed: Mapping[str, Any], timeout_s: float | None = None
    ) -> Future[dict[str, Any]] | None:
        """The same, later; None: it can only be waited for."""


class EngineModel:
    """An engine."""

    def __init__(self, path: str, engine: Engine, fetch: Sequence[str] | None) -> None:
        self.engine = engine
        self._view = EngineOfService(engine, engine.model.path.name)
        self._names = wanted_names(fetch, engine.outputs)
        known = [
            name for tensor in engine.outputs for name in (tensor.alias, tensor.name) if name is not None
        ]
        unknown = [name for name in self._names if name not in known]
        if unknown:
            raise ConfigError(
                f"{path}: fetch_list has {listed(unknown)}, "
                f"and the model gives {listed(dict.fromkeys(known))}"
            )

    def run(self, feed: Mapping[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """On the engine; the deadline is the request's, or sooner."""
        inputs = engine_inputs(feed, self.engine.inputs, batch=True)
        outputs: dict[str, Any] = self._view.infer(inputs, timeout=timeout_s, outputs=self._names)
        return outputs

    def submit(self, feed: Mapping[str, Any], timeout_s: float | None = None) -> Future[dict[str, Any]]:
        """On the engine."""
        request = CURRENT.get()
        left_s = timeout_s if request is None else request.timeout_s(timeout_s)
        inputs = engine_inputs(feed, self.engine.inputs, batch=True)
        return self.engine.submit(inputs, timeout=left_s, outputs=self._names)


class ClientModel:
    """Servers, over HTTP or gRPC."""

    def __init__(self, client: Client, fetch: Sequence[str] | None) -> None:
        self._client = client
        self._names = list(fetch) if fetch else client.get_fetch_names()

    def run(self, feed: Mapping[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """On one of the servers; the client's own timeout holds."""
        request = CURRENT.get()
        if request is None:
            return self._asked(feed)
        with request.waiting():
            return self._asked(feed)

    def _asked(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        try:
            outputs: dict[str, Any] = self._client.predict(feed, self._names, batch=True)
        except ConnectionError as error:  # with the address, which is no client's affair
            _log.error("no server answered an Op of a pipeline: %s", error)
            raise ModelError("no server of its model answered; the log says why") from error
        return outputs

    def submit(self, feed: Mapping[str, Any], timeout_s: float | None = None) -> None:
        """Nothing: the client has no such call."""
        return None
