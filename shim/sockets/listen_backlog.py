"""Empties the queue of a listening socket, so that a server ends without resetting clients in it."""

from __future__ import annotations

import contextlib
import ctypes
import select
import socket
import struct

__all__ = ["has_waiting", "refuse_new"]

_SO_ATTACH_FILTER = 26
_SYN, _SYN_ACK = 0x02, 0x12
_DROP, _PASS = 0, 0xFFFFFFFF
# Classic BPF: by its flags, a TCP segment that is a SYN and begins a connection is dropped.
_NO_SYN = (
    (0x30, 0, 0, 13),  # ldb [13]
    (0x54, 0, 0, _SYN_ACK),  # and
    (0x15, 0, 1, _SYN),  # jeq
    (0x06, 0, 0, _DROP),  # ret
    (0x06, 0, 0, _PASS),  # ret
)


def refuse_new(listener: socket.socket) -> None:
    """Lets no further connection begin; waiting ones are accepted as before.

    A closed socket resets the connections in its queue, which cannot be emptied while new ones come in. A
    client whose SYN is dropped sends it again a second later, and finds the port closed or another server.
    """
    if listener.family == socket.AF_UNIX:
        return  # nobody can find it: its file is gone
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _NO_SYN))
    with contextlib.suppress(OSError):  # the kernel has no filters, so a new client may be reset
        listener.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HL", len(_NO_SYN), ctypes.addressof(program)),
        )


def has_waiting(listener: socket.socket) -> bool:
    """Tells whether a connection waits to be accepted."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
