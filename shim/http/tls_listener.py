"""Accepts connections over TLS; each counts before its handshake, which has a time limit."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..service.connection_limits import ConnectionLimits

if TYPE_CHECKING:
    from .protocol import HttpProtocol

__all__ = ["TlsListener"]

_log = logging.getLogger("paddleinfer.http")

_ACCEPTED_AT_ONCE: Final = 64
# The pause before the next try, if there is no further descriptor.
_ACCEPT_AGAIN_S: Final = 0.1


class TlsListener:
    """Replaces asyncio's server, which reports a connection only after its handshake.

    `make` returns the protocol of a connection; handshakes are among `tasks`.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], HttpProtocol],
        limits: ConnectionLimits,
        tasks: set[Any],
        context: ssl.SSLContext,
        timeout_s: float,
    ) -> None:
        self._listener = listener
        self._make = make
        self._limits = limits
        self._tasks = tasks
        self._context = context
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()

    def start(self, backlog: int) -> None:
        """Listens."""
        self._listener.setblocking(False)
        self._listener.listen(backlog)
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accepts no more connections; the caller closes the socket."""
        self._loop.remove_reader(self._listener)

    async def wait_closed(self) -> None:
        """Returns at once: uvicorn calls it when all tasks are over."""

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                _log.warning("no connection can be accepted: %s", error.strerror)
                self.close()
                self._loop.call_later(_ACCEPT_AGAIN_S, self._go_on)
                return
            address = peer[0] if isinstance(peer, tuple) else None
            refusal = self._limits.enter(address)
            if refusal is not None:
                _log.debug("%s", refusal)  # no answer is possible before the handshake
                connection.close()
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._shake_hands(connection, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _go_on(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    async def _shake_hands(self, connection: socket.socket, address: str | None) -> None:
        protocol = self._make()
        protocol.is_counted = True
        try:
            await self._loop.connect_accepted_socket(  # type: ignore[call-arg]  # uvloop has the last
                lambda: protocol,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=self._timeout_s,
                ssl_shutdown_timeout=self._timeout_s,
            )
        except OSError as error:  # TLS, the network or the time limit failed
            _log.debug("a TLS handshake failed: %s", error)
        finally:
            if protocol.transport is None:  # the connection has not begun, so it does not end
                protocol.is_counted = False
                self._limits.leave(address)
