"""The socket that the server listens on."""

from __future__ import annotations

import os
import socket
import stat

from paddleinfer.errors import ConfigError

from .server_options import ServerOptions

__all__ = ["check_tcp", "check_unix", "listen", "url_of"]


def listen(options: ServerOptions) -> socket.socket:
    """Bound already, so that a taken address is known before any model is loaded.

    Raises
    ------
    ConfigError
        The address cannot be had; the sentence says why.
    """
    try:
        return (
            _listen_unix(options.uds) if options.uds is not None else _listen_tcp(options.host, options.port)
        )
    except (OSError, UnicodeError) as error:  # the latter for a host that is no name
        where = options.uds or f"{options.host}:{options.port}"
        raise ConfigError(f"cannot listen on {where}: {getattr(error, 'strerror', None) or error}") from None


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


def _listen_unix(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        clear_left_over(path)
        listener.bind(path)
    except BaseException:
        listener.close()
        raise
    return listener


def check_tcp(host: str, port: int) -> None:
    """Raises OSError or UnicodeError where nobody could listen there now."""
    _listen_tcp(host, port).close()


def check_unix(path: str) -> None:
    """The same; the file of a server that is gone is removed."""
    with _listen_unix(path):
        os.unlink(path)


def clear_left_over(path: str) -> None:
    """Removes the socket's file of a server that is gone."""
    if _is_left_over(path):
        os.unlink(path)


def _is_left_over(path: str) -> bool:
    """Whether it is one."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
    return False


def url_of(listener: socket.socket, host: str, tls: bool) -> str:
    """What a client is to be told."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{name[1]}"
