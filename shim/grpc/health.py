"""The standard health service (grpc.health.v1) over the readiness of the server and of each model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from .errors import RequestError
from .grpc_calls import Calls, parsed
from .grpc_messages import SERVICE
from .service import Service

__all__ = ["HEALTH_SERVICE", "health_handlers"]

HEALTH_SERVICE: Final = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

# A model's state changes in many places. Watchers are told after so long at most.
_LOOK_INTERVAL_S: Final = 0.25


def health_handlers(service: Service, calls: Calls) -> Mapping[str, Any]:
    """Method -> its handler. The server is "" or its service's name, a model its name."""

    def status_of(name: str) -> Any:
        if name in ("", SERVICE):
            ready = service.ready
        else:
            try:
                ready = service.models.get(name).ready and not service.draining
            except RequestError:
                return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING

    async def check(body: bytes, context: Any) -> bytes:
        name = parsed(HealthCheckRequest, body).service
        status = status_of(name)
        if status == HealthCheckResponse.SERVICE_UNKNOWN:
            raise RequestError(HTTPStatus.NOT_FOUND, f"there is no model {name!r}; the server itself is ''")
        return _written(status)

    async def list_all(body: bytes, context: Any) -> bytes:
        parsed(health_pb2.HealthListRequest, body)
        names = ["", SERVICE, *(model.name for model in service.models)]
        statuses = {name: HealthCheckResponse(status=status_of(name)) for name in names}
        written: bytes = health_pb2.HealthListResponse(statuses=statuses).SerializeToString()
        return written

    async def watch(bodies: AsyncIterator[bytes], context: Any) -> None:
        told = None
        async for body in bodies:
            name = parsed(HealthCheckRequest, body).service
            while True:
                status = status_of(name)
                if status != told:
                    await context.write(_written(status))
                told = status
                await asyncio.sleep(_LOOK_INTERVAL_S)

    handlers = {"Check": calls.unary("Check", check), "Watch": calls.stream("Watch", calls.endless(watch))}
    if hasattr(health_pb2, "HealthListRequest"):  # of later versions
        handlers["List"] = calls.unary("List", list_all)
    return handlers


def _written(status: Any) -> bytes:
    written: bytes = HealthCheckResponse(status=status).SerializeToString()
    return written
