"""Serves the standard health service (grpc.health.v1): the readiness of the server and of each model."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from paddleinfer.serving.formats.messages import GENERAL_SERVICE, PIPELINE_SERVICE

from ..protocol.errors import RequestError
from ..service.service import Service
from .calls import Calls
from .limits import MessageReader
from .messages import SERVICE

__all__ = ["HEALTH_SERVICE", "health_handlers"]

HEALTH_SERVICE: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

_SERVER_NAMES: Final = ("", SERVICE, GENERAL_SERVICE, PIPELINE_SERVICE)
# A model's state changes in many places. Watchers hear of it within this time.
_LOOK_INTERVAL_S: Final = 0.25
# Watches need no key, and last for ever.
_MAX_WATCHES: Final = 1_024
_MAX_WATCHES_OF_CONNECTION: Final = 64


def health_handlers(service: Service, calls: Calls) -> Mapping[str, Any]:
    """Returns method -> its handler. The server is named "" or by one of its services, a model by its name.

    One of several versions is named NAME/3.
    """
    read = MessageReader(HealthCheckRequest)

    def status_of(name: str) -> Any:
        if name in _SERVER_NAMES:
            ready = service.ready
        else:
            try:
                ready = service.models.get(*name.split("/", 1)).ready and not service.draining
            except RequestError:
                return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING

    async def check(body: bytes, context: Any) -> bytes:
        name = read(body).service
        status = status_of(name)
        if status == HealthCheckResponse.SERVICE_UNKNOWN:
            raise RequestError(HTTPStatus.NOT_FOUND, f"there is no model {name!r}; the server itself is ''")
        return _written(status)

    async def list_all(body: bytes, context: Any) -> bytes:
        MessageReader(health_pb2.HealthListRequest)(body)
        served = service.models.with_services()
        names = [*_SERVER_NAMES, *{name: None for model in served for name in (model.name, model.label)}]
        statuses = {name: HealthCheckResponse(status=status_of(name)) for name in names}
        written: bytes = health_pb2.HealthListResponse(statuses=statuses).SerializeToString()
        return written

    watches = Watches(status_of)

    async def watch(bodies: AsyncIterator[bytes], context: Any) -> None:
        async for body in bodies:
            with watches.one(read(body).service, context.peer()) as watch:
                told = None
                while True:
                    if watch.status == told:
                        await watch.changed()
                    told = watch.status
                    await calls.write(context, _written(told))

    handlers = {"Check": calls.unary("Check", check), "Watch": calls.stream("Watch", calls.endless(watch))}
    if hasattr(health_pb2, "HealthListRequest"):  # in later versions
        handlers["List"] = calls.unary("List", list_all)
    return handlers


class _Watch:
    """The state of one name, for which all of its watchers wait."""

    def __init__(self, status: Any) -> None:
        self.status = status
        self.watchers = 0
        self._change = asyncio.Event()

    def look(self, status: Any) -> None:
        if status != self.status:
            self.status = status
            self._change.set()
            self._change = asyncio.Event()

    async def changed(self) -> None:
        await self._change.wait()


class Watches:
    """Looks at each watched name once for all its watchers, and limits their number.

    Parameters
    ----------
    status_of
        It returns the status of a name.
    """

    def __init__(self, status_of: Callable[[str], Any]) -> None:
        self._status_of = status_of
        self._watches: dict[str, _Watch] = {}
        self._of_connections: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def one(self, name: str, connection: str) -> Iterator[_Watch]:
        """Adds a watcher of a name on this connection; raises RequestError 429 if there are too many."""
        for count, most, whose in (
            (self._of_connections[connection], _MAX_WATCHES_OF_CONNECTION, "this connection has"),
            (self._of_connections.total(), _MAX_WATCHES, "the server has"),
        ):
            if count >= most:
                raise RequestError(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    f"{whose} {count} calls of Watch, which is the most; Check asks once",
                )
        watch = self._watches.get(name)
        if watch is None:
            watch = self._watches[name] = _Watch(self._status_of(name))
        watch.watchers += 1
        self._of_connections[connection] += 1
        self._begin()
        try:
            yield watch
        finally:
            watch.watchers -= 1
            if not watch.watchers:
                del self._watches[name]
            self._of_connections[connection] -= 1
            if not self._of_connections[connection]:
                del self._of_connections[connection]

    def _begin(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_INTERVAL_S, self._look)

    def _look(self) -> None:
        self._timer = None
        for name, watch in self._watches.items():
            watch.look(self._status_of(name))
        if self._watches:
            self._begin()


def _written(status: Any) -> bytes:
    written: bytes = HealthCheckResponse(status=status).SerializeToString()
    return written
