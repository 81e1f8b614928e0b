"""The socket that the server listens on."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from paddleinfer.errors import ConfigError

from ..options import ServerOptions
from .unix_socket import SocketFile, bind_unix

__all__ = ["Listener", "check_tcp", "listen"]


@dataclass(frozen=True)
class Listener:
    """Where the server listens over HTTP."""

    socket: socket.socket
    url: str
    """What a client is to be told."""
    file: SocketFile | None
    """Of a Unix socket."""

    def remove_file(self) -> None:
        """Before the socket is closed; a Unix socket that stays behind looks like a server."""
        if self.file is not None:
            self.file.remove()


def listen(options: ServerOptions) -> Listener:
    """Bound already, so that a taken address is known before any model is loaded.

    Raises
    ------
    ConfigError
        The address cannot be had; the sentence says why.
    """
    try:
        if options.uds is not None:
            listener, file = bind_unix(options.uds, options.socket_mode)
            return Listener(listener, f"unix:{options.uds}", file)
        listener = _listen_tcp(options.host, options.port)
    except (OSError, ValueError) as error:  # the latter for a host or a path that is no name
        where = options.uds or f"{options.host}:{options.port}"
        raise ConfigError(f"cannot listen on {where}: {getattr(error, 'strerror', None) or error}") from None
    host = f"[{options.host}]" if ":" in options.host else options.host
    scheme = "http" if options.tls_cert is None else "https"
    return Listener(listener, f"{scheme}://{host}:{listener.getsockname()[1]}", None)


def _listen_tcp(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except BaseException:
        listener.close()
        raise
    return listener


def check_tcp(host: str, port: int) -> None:
    """Raises OSError or ValueError where nobody could listen there now."""
    _listen_tcp(host, port).close()
