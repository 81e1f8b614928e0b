"""The calls of the Open Inference Protocol that a replica gets from Ray Serve's gRPC proxy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from paddleinfer.errors import ConfigError
from paddleinfer.ray.http import ServerRoutes

__all__ = ["GrpcMethods", "add_inference_service"]


def add_inference_service(servicer: object, server: Any) -> None:
    """Has a server take the calls of ``inference.GRPCInferenceService``.

    Serve's proxy does so where the ``grpc_servicer_functions`` of its ``gRPCOptions`` name
    ``"paddleinfer.ray.add_inference_service"``. The deployments that it asks are those of
    ``paddleinfer.ray.deployment``.

    Raises
    ------
    ConfigError
        What gRPC needs is not installed.
    """
    _server_calls().add_handlers(servicer, server)


class Message(bytes):
    """An answer, which is bytes already when Serve writes it."""

    def SerializeToString(self) -> bytes:
        """Returns the bytes."""
        return bytes(self)


class _Context:
    """Serve's context of a call. It does not say until when the client waits."""

    def __init__(self, given: Any) -> None:
        self._given = given
        self.peer = given.peer
        self.invocation_metadata = given.invocation_metadata

    def time_remaining(self) -> None:
        return None


def _call(method: str) -> Callable[[GrpcMethods, bytes, Any], Awaitable[Message]]:
    async def call(self: GrpcMethods, request: bytes, grpc_context: Any) -> Message:
        if self._received is None:
            self._received = _server_calls().ReceivedCalls(self._routes.service)
        try:
            return Message(await self._received.answer(method, request, _Context(grpc_context)))
        except _server_calls().Refused as refused:
            grpc_context.set_code(refused.code)
            grpc_context.set_details(refused.sentence)
            raise

    call.__name__ = method
    call.__doc__ = f"Answers a call of {method}, as paddleinfer-http does."
    return call


class GrpcMethods:
    """The calls, by which name Serve asks for them; each takes and gives the bytes of a message."""

    _routes: ServerRoutes
    _received: Any = None

    ServerLive = _call("ServerLive")
    ServerReady = _call("ServerReady")
    ModelReady = _call("ModelReady")
    ServerMetadata = _call("ServerMetadata")
    ModelMetadata = _call("ModelMetadata")
    ModelInfer = _call("ModelInfer")
    ModelConfig = _call("ModelConfig")
    ModelStatistics = _call("ModelStatistics")
    RepositoryIndex = _call("RepositoryIndex")
    RepositoryModelLoad = _call("RepositoryModelLoad")
    RepositoryModelUnload = _call("RepositoryModelUnload")


def _server_calls() -> Any:
    try:
        from paddleinfer.shim.grpc import received
    except ImportError as error:
        raise ConfigError(
            f"gRPC needs more packages ({error}); install them with pip install 'paddleinfer[ray,grpc]'"
        ) from error
    return received
