"""The gRPC server: where it listens, who may call, how it ends."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import grpc

from paddleinfer.errors import ConfigError

from .errors import RequestError
from .grpc_calls import Calls
from .grpc_health import HEALTH_SERVICE, health_handlers
from .grpc_infer import GrpcInference
from .grpc_messages import SERVICE
from .grpc_reflection import REFLECTION_SERVICES, reflection_handlers
from .grpc_service import OPEN_METHODS, inference_handlers
from .grpc_status import abort
from .listener import check_tcp, check_unix
from .server_options import ServerOptions
from .service import Service

__all__ = ["GrpcServer"]

# Calls that came and have not been looked at. From half of them on grpc cancels some at random; by itself it
# does so from 1,000 on, which a client sends at once. The engine's own queue is what refuses with a reason.
_MOST_WAITING_CALLS: Final = 1 << 16
# Of a message, as gRPC counts them.
_MOST_BYTES: Final = (1 << 31) - 1
# Calls that have come meanwhile are told that the server ends.
_LAST_CALLS_S: Final = 0.2
# After what is cut has been told so.
_LAST_WORDS_S: Final = 1.0


class GrpcServer:
    """Serves a Service over gRPC, in the event loop that makes it.

    Attributes
    ----------
    addresses
        Where it listens, as a client is to be told.
    """

    def __init__(self, service: Service, options: ServerOptions) -> None:
        self._calls = Calls()
        self._inference = GrpcInference(service)
        self._server = grpc.aio.server(
            interceptors=[_KeyCheck(service)] if service.options.api_key else [],
            options=[
                ("grpc.max_receive_message_length", min(service.options.max_body_bytes, _MOST_BYTES)),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # a port that another server has is an error
                ("grpc.server.max_pending_requests", _MOST_WAITING_CALLS // 2),
                ("grpc.server.max_pending_requests_hard_limit", _MOST_WAITING_CALLS),
            ],
        )
        handlers = {
            SERVICE: inference_handlers(service, self._inference, self._calls),
            HEALTH_SERVICE: health_handlers(service, self._calls),
            **dict.fromkeys(REFLECTION_SERVICES, reflection_handlers(self._calls)),
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(name, methods) for name, methods in handlers.items()]
        )
        self._credentials = _credentials(options)
        self._options = options
        self.addresses: list[str] = []

    async def start(self) -> None:
        """Listens and serves.

        Raises
        ------
        ConfigError
            An address cannot be had.
        """
        options = self._options
        if options.grpc_port is not None:
            host = f"[{options.host}]" if ":" in options.host else options.host
            check = functools.partial(check_tcp, options.host, options.grpc_port)
            port = self._listen(f"{host}:{options.grpc_port}", check)
            self.addresses.append(f"{host}:{port}")
        if options.grpc_uds is not None:
            address = f"unix:{options.grpc_uds}"
            self._listen(address, functools.partial(check_unix, options.grpc_uds))
            self.addresses.append(address)
        await self._server.start()

    def _listen(self, address: str, check: Callable[[], None]) -> int:
        try:
            # gRPC itself would not say what is wrong, and take the file of a server that still listens.
            check()
            if self._credentials is None:
                port: int = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, self._credentials)
        except (OSError, RuntimeError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"cannot listen for gRPC on {address}: {why}") from None
        return port

    async def stop(self, timeout_s: float) -> None:
        """Takes no more calls, lets those under way end for so long, and cuts and counts the others."""
        self._calls.end_endless()
        self._inference.end()
        # gRPC would cancel calls that have come and that no handler has seen yet.
        await asyncio.sleep(_LAST_CALLS_S)
        stopping = asyncio.create_task(self._server.stop(timeout_s + _LAST_WORDS_S))
        ended, _ = await asyncio.wait([stopping], timeout=timeout_s)
        if not ended:
            self._inference.cut()
        await stopping


def _credentials(options: ServerOptions) -> Any:
    if options.tls_cert is None or options.tls_key is None:
        return None
    key, certificate = Path(options.tls_key).read_bytes(), Path(options.tls_cert).read_bytes()
    return grpc.ssl_server_credentials([(key, certificate)])


class _KeyCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets calls through that bring the key, and those that need none."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        method = handler_call_details.method
        if method in OPEN_METHODS or method.startswith(f"/{HEALTH_SERVICE}/"):
            return await continuation(handler_call_details)
        given = dict(handler_call_details.invocation_metadata).get("authorization", "")
        if self._service.allows({b"authorization": given.encode() if isinstance(given, str) else given}):
            return await continuation(handler_call_details)
        return grpc.stream_stream_rpc_method_handler(_refuse)


async def _refuse(bodies: Any, context: Any) -> None:
    """Of a call of any kind: nothing of it is read."""
    await abort(
        context,
        RequestError(HTTPStatus.UNAUTHORIZED, "this server wants its key: authorization: Bearer KEY"),
    )
