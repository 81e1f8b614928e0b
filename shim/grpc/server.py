"""Runs the gRPC server: where it listens, who may call, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import grpc

from paddleinfer.errors import ConfigError
from paddleinfer.serving.formats.messages import GENERAL_SERVICE, PIPELINE_SERVICE

from ..options import ServerOptions
from ..service.service import Service
from ..sockets.listener import check_tcp
from ..sockets.unix_socket import SocketFile, check_unix, place_beside
from .calls import Calls
from .general_model import general_handlers
from .health import HEALTH_SERVICE, health_handlers
from .infer import GrpcInference
from .keys import has_key, key_required
from .messages import SERVICE
from .pipeline import pipeline_handlers
from .reflection import REFLECTION_SERVICES, reflection_handlers
from .service import OPEN_METHODS, inference_handlers
from .status import abort
from .transfers import Arrivals, Patience, Unsent

__all__ = ["GrpcServer", "max_connections"]

# The most calls that have arrived and not been looked at. From half of them on grpc cancels some at random;
# by default it does so from 1,000 on, which one client can send. Refusing is the job of the engine's queue.
_MOST_WAITING_CALLS: Final = 1 << 16
# The most calls of a connection at once. Once its client knows the limit, it holds further calls back.
_MAX_CALLS: Final = 16_384
_MAX_CALLS_OF_CONNECTION: Final = 8_192
# The largest number of bytes or milliseconds in gRPC.
_MOST: Final = (1 << 31) - 1
_MAX_METADATA_BYTES: Final = 1 << 14
# How often a client with calls is asked whether it is still there.
_KEEPALIVE_INTERVAL_MS: Final = 60_000
# About as many descriptors as the process itself keeps open.
_OWN_DESCRIPTORS: Final = 128
_LEAST_CONNECTIONS: Final = 16
# While calls come within this time of each other they are told that the server ends, up to the longer time.
_LAST_CALLS_S: Final = 0.2
_MOST_LAST_CALLS_S: Final = 5.0
# The time after cut calls have been told so.
_LAST_WORDS_S: Final = 1.0
# The health service's List names the models.
_OPEN_METHODS: Final = OPEN_METHODS | {f"/{HEALTH_SERVICE}/{method}" for method in ("Check", "Watch")}


class GrpcServer:
    """Serves a Service over gRPC, in the event loop that makes it.

    Attributes
    ----------
    addresses
        The addresses on which it listens, in the form for clients.
    """

    def __init__(self, service: Service, options: ServerOptions) -> None:
        limits = service.options
        patience = Patience(limits.write_timeout_s, limits.min_bytes_per_s, limits.request_timeout_s)
        unsent = Unsent(service.buffered_bytes, patience)
        max_message_bytes = min(limits.max_body_bytes, options.max_grpc_message_bytes, _MOST)
        arrivals = Arrivals(service.buffered_bytes, max_message_bytes, limits.request_timeout_s)
        self._calls = Calls(arrivals, unsent)
        self._inference = GrpcInference(service, unsent)
        self._server = grpc.aio.server(
            interceptors=[_KeyCheck(service)] if service.options.api_key else [],
            options=_channel_options(service, options, max_message_bytes),
            maximum_concurrent_rpcs=_MAX_CALLS,
        )
        handlers = {
            SERVICE: inference_handlers(service, self._inference, self._calls),
            GENERAL_SERVICE: general_handlers(self._calls, self._inference.infer_general),
            PIPELINE_SERVICE: pipeline_handlers(self._calls, self._inference.infer_pipeline),
            HEALTH_SERVICE: health_handlers(service, self._calls),
            **dict.fromkeys(REFLECTION_SERVICES, reflection_handlers(self._calls)),
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, methods) for name, methods in handlers.items()]
        )
        self._credentials = _credentials(options)
        self._options = options
        self._file: SocketFile | None = None
        self.addresses: list[str] = []

    async def start(self) -> None:
        """Listens and serves.

        Raises
        ------
        ConfigError
            An address is not available.
        """
        options = self._options
        if options.grpc_port is not None:
            host = f"[{options.host}]" if ":" in options.host else options.host
            address = f"{host}:{options.grpc_port}"
            with _refusing(address):
                # gRPC itself would not report what is wrong.
                check_tcp(options.host, options.grpc_port)
                port = self._listen(address)
            self.addresses.append(f"{host}:{port}")
        if options.grpc_uds is not None:
            address = f"unix:{options.grpc_uds}"
            with _refusing(address):
                self._file = self._listen_unix(options.grpc_uds, options.socket_mode)
            self.addresses.append(address)
        await self._server.start()

    def _listen_unix(self, path: str, mode: int) -> SocketFile:
        """Lets gRPC make its socket elsewhere, because at its end gRPC removes whatever is at that path.

        So the socket has its permissions, too, before anybody can find it.
        """
        check_unix(path)
        beside = place_beside(path)
        self._listen(f"unix:{beside}")
        os.chmod(beside, mode)
        os.rename(beside, path)
        return SocketFile(path)

    def _listen(self, address: str) -> int:
        if self._credentials is None:
            port: int = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, self._credentials)
        return port

    def remove_file(self) -> None:
        """Removes the Unix socket's file, if there is one, before the socket is closed."""
        if self._file is not None:
            self._file.remove()

    async def stop(self, timeout_s: float) -> None:
        """Accepts no more calls, waits for those in flight, then cancels and counts the rest."""
        self.remove_file()
        self._calls.end_endless()
        self._inference.end()
        # gRPC would cancel calls that have arrived and that no handler has seen yet.
        end_s = asyncio.get_running_loop().time() + timeout_s
        await self._calls.none_begins(_LAST_CALLS_S, max(_LAST_CALLS_S, min(_MOST_LAST_CALLS_S, timeout_s)))
        timeout_s = max(0.0, end_s - asyncio.get_running_loop().time())
        stopping = asyncio.create_task(self._server.stop(timeout_s + _LAST_WORDS_S))
        ended, _ = await asyncio.wait([stopping], timeout=timeout_s)
        if not ended:
            self._inference.cut()
        await stopping


@contextlib.contextmanager
def _refusing(address: str) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen for gRPC on {address}: {why}") from None


def _channel_options(
    service: Service, options: ServerOptions, max_message_bytes: int
) -> list[tuple[str, int]]:
    limits = service.options
    connections = max_connections(limits.max_connections, service.connections.most)
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.so_reuseport", 0),  # a port that another server uses is an error
        ("grpc.server.max_pending_requests", _MOST_WAITING_CALLS // 2),
        ("grpc.server.max_pending_requests_hard_limit", _MOST_WAITING_CALLS),
        ("grpc.max_allowed_incoming_connections", connections),
        ("grpc.max_concurrent_streams", _MAX_CALLS_OF_CONNECTION),
        # for the handshakes of TLS and of HTTP/2
        ("grpc.server_handshake_timeout_ms", _ms(options.tls_handshake_timeout)),
        ("grpc.max_connection_idle_ms", _ms(options.keep_alive_timeout)),
        ("grpc.keepalive_time_ms", _KEEPALIVE_INTERVAL_MS),
        ("grpc.keepalive_timeout_ms", _ms(limits.write_timeout_s)),
    ]


def _ms(seconds: float) -> int:
    return max(1, min(round(seconds * 1000), _MOST))


def max_connections(wanted: int, others: int) -> int:
    """Returns so many, or as many as the descriptors allow beside others; raises the soft limit for them."""
    needed = wanted + others + _OWN_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return min(wanted, _MOST)
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(wanted, max(_LEAST_CONNECTIONS, soft - others - _OWN_DESCRIPTORS), _MOST)


def _credentials(options: ServerOptions) -> Any:
    if options.tls_cert is None or options.tls_key is None:
        return None
    key, certificate = Path(options.tls_key).read_bytes(), Path(options.tls_cert).read_bytes()
    return grpc.ssl_server_credentials([(key, certificate)])


class _KeyCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Admits calls that have the key, and calls that need none."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        method = handler_call_details.method
        if method in _OPEN_METHODS:
            return await continuation(handler_call_details)
        if has_key(self._service, handler_call_details.invocation_metadata):
            return await continuation(handler_call_details)
        return grpc.stream_stream_rpc_method_handler(_refuse)


async def _refuse(bodies: Any, context: Any) -> None:
    """Refuses a call of any kind, without reading anything of it."""
    await abort(context, key_required())
