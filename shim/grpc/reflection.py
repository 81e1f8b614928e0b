"""Serves reflection, by which tools such as grpcurl ask the server what it offers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from paddleinfer.serving.formats.messages import FILES, GENERAL_SERVICE, PIPELINE_SERVICE

from .calls import Calls
from .health import HEALTH_SERVICE
from .limits import MessageReader
from .messages import POOL, SERVICE

__all__ = ["REFLECTION_SERVICES", "reflection_handlers"]

REFLECTION_SERVICES: Final = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
"""The service's names; version 1 differs from its alpha only in the name."""


def reflection_handlers(calls: Calls) -> Mapping[str, Any]:
    """Returns method -> its handler."""
    # One pool answers all questions.
    for file in (health_pb2.DESCRIPTOR.serialized_pb, *FILES):
        POOL.AddSerializedFile(file)
    services = (HEALTH_SERVICE, SERVICE, GENERAL_SERVICE, PIPELINE_SERVICE)
    read = MessageReader(ServerReflectionRequest)
    servicer = reflection.aio.ReflectionServicer(services, pool=POOL)

    async def info(bodies: AsyncIterator[bytes], context: Any) -> None:
        async def requests() -> AsyncIterator[Any]:
            async for body in bodies:
                yield read(body)

        async for response in servicer.ServerReflectionInfo(requests(), context):
            await calls.write(context, response.SerializeToString())

    return {"ServerReflectionInfo": calls.stream("ServerReflectionInfo", calls.endless(info))}
