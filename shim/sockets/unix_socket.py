"""Handles a Unix socket's file: binds it with its permissions, clears leftovers, and removes only its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import stat
from pathlib import Path

__all__ = ["SocketFile", "bind_unix", "check_unix", "place_beside"]


class SocketFile:
    """The file of a socket that listens here."""

    def __init__(self, path: str) -> None:
        self._path = path
        made = os.stat(path)
        self._made: tuple[int, int] | None = (made.st_dev, made.st_ino)

    def remove(self) -> None:
        """Removes the file, once, and only if it is still the one that was made.

        It must be called before the socket is closed: until then no other file can have its inode number.
        """
        made, self._made = self._made, None
        if made is None:
            return
        with contextlib.suppress(FileNotFoundError):
            now = os.lstat(self._path)
            if (now.st_dev, now.st_ino) == made:
                os.unlink(self._path)


def bind_unix(path: str, mode: int) -> tuple[socket.socket, SocketFile]:
    """Opens a listening socket. It has its permissions from the start, so that nobody can use others.

    Raises
    ------
    OSError, ValueError
        The path is not available.
    """
    clear_left_over(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        file = SocketFile(path)
        try:
            os.chmod(path, mode)
            listener.listen()
        except BaseException:
            file.remove()
            raise
    except BaseException:
        listener.close()
        raise
    return listener, file


def check_unix(path: str) -> None:
    """Raises OSError or ValueError if nobody could listen there now; removes leftovers."""
    listener, file = bind_unix(path, 0o600)
    with listener:
        file.remove()


def place_beside(path: str) -> str:
    """Returns a free name in the same directory, where a socket is prepared before it takes its place."""
    return str(Path(path).with_name(f".{secrets.token_hex(3)}"))


def clear_left_over(path: str) -> None:
    """Removes the socket's file of a server that is gone; raises OSError for a file that is not a socket."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(0, "there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a server that is not accepting just now would keep it waiting
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:
            return
