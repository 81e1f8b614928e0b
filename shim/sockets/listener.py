"""Opens the socket that the server listens on."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from paddleinfer.errors import ConfigError

from ..options import ServerOptions
from .unix_socket import SocketFile, bind_unix

__all__ = ["Listener", "check_tcp", "listen"]


@dataclass(frozen=True)
class Listener:
    """The socket on which the server listens for HTTP."""

    socket: socket.socket
    url: str
    """Its URL, for clients."""
    file: SocketFile | None
    """The file of a Unix socket."""

    def remove_file(self) -> None:
        """Removes the file, before the socket is closed; a Unix socket left behind looks like a server."""
        if self.file is not None:
            self.file.remove()


def listen(options: ServerOptions) -> Listener:
    """Binds the socket, so that a taken address is known before any model is loaded.

    Raises
    ------
    ConfigError
        The address is not available; the sentence says why.
    """
    try:
        if options.uds is not None:
            listener, file = bind_unix(options.uds, options.socket_mode)
            return Listener(listener, f"unix:{options.uds}", file)
        listener = _listen_tcp(options.host, options.port)
    except (OSError, ValueError) as error:  # ValueError for a host or a path that is not a valid name
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
    """Raises OSError or ValueError if nobody could listen there now."""
    _listen_tcp(host, port).close()
