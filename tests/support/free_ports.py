"""Ports for programs that cannot be told to take a free one and to name it."""

from __future__ import annotations

import contextlib
import socket


def free_ports(count: int) -> list[int]:
    """So many of this machine; another program could take one before it is used."""
    with contextlib.ExitStack() as listeners:
        taken = [listeners.enter_context(socket.socket()) for _ in range(count)]
        for listener in taken:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in taken]
