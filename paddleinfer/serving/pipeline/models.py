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

    def prepare(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        """What it takes, of one dict of arrays; raises InvalidInput."""

    def run(self, inputs: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """The outputs, arrays with their batch axis, while this thread waits.

        Raises
        ------
        InvalidInput, ModelError, DeadlineExceeded, QueueFull, EngineClosed
            As of ``Engine.infer``.
        """


class EngineModel:
    """The engine of an Op; `name` is the Op's."""

    def __init__(self, name: str, engine: Engine, fetch: Sequence[str] | None) -> None:
        self.engine = engine
        self._view = EngineOfService(engine, name)
        self._names = wanted_names(fetch, engine.outputs)
        known = [
            name for tensor in engine.outputs for name in (tensor.alias, tensor.name) if name is not None
        ]
        unknown = [name for name in self._names if name not in known]
        if unknown:
            raise ConfigError(
                f"op.{name}: fetch_list has {listed(unknown)}, "
                f"and the model gives {listed(dict.fromkeys(known))}"
            )

    def prepare(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        """By the model's own names."""
        return engine_inputs(feed, self.engine.inputs, batch=True)

    def run(self, inputs: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """On the engine; the deadline is the request's, or sooner."""
        outputs: dict[str, Any] = self._view.infer(inputs, timeout=timeout_s, outputs=self._names)
        return outputs

    def submit(self, inputs: dict[str, Any], timeout_s: float | None = None) -> Future[dict[str, Any]]:
        """The same, later."""
        request = CURRENT.get()
        if request is None:
            return self.engine.submit(inputs, timeout=timeout_s, outputs=self._names)
        left_s, priority = request.timeout_s(timeout_s), request.priority
        return self.engine.submit(inputs, timeout=left_s, outputs=self._names, priority=priority)

    async def arun(self, inputs: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """The same, from an event loop."""
        outputs: dict[str, Any] = await self._view.ainfer(inputs, timeout=timeout_s, outputs=self._names)
        return outputs


class ClientModel:
    """Servers, over HTTP or gRPC."""

    def __init__(self, client: Client, fetch: Sequence[str] | None) -> None:
        self._client = client
        self._names = list(fetch) if fetch else client.get_fetch_names()

    def prepare(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        """As it is: the client looks at it."""
        return dict(feed)

    def run(self, inputs: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """On one of the servers; the client's own timeout holds."""
        request = CURRENT.get()
        if request is None:
            return self._asked(inputs)
        with request.waiting():
            return self._asked(inputs)

    def _asked(self, inputs: dict[str, Any]) -> dict[str, Any]:
        try:
            outputs: dict[str, Any] = self._client.predict(inputs, self._names, batch=True)
        except ConnectionError as error:  # with the address, which is no client's affair
            _log.error("no server answered an Op of a pipeline: %s", error)
            raise ModelError("no server of its model answered; the log says why") from error
        return outputs
