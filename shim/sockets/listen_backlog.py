"""The queue of a listening socket: how to end without a client that is in it losing its connection."""

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
# Classic BPF: of the flags of a TCP segment, is it a SYN that begins a connection? It is dropped then.
_NO_SYN = (
    (0x30, 0, 0, 13),  # ldb [13]
    (0x54, 0, 0, _SYN_ACK),  # and
    (0x15, 0, 1, _SYN),  # jeq
    (0x06, 0, 0, _DROP),  # ret
    (0x06, 0, 0, _PASS),  # ret
)


def refuse_new(listener: socket.socket) -> None:
    """Lets no further connection begin; what waits is accepted as before.

    A closed socket resets those that wait in its queue, and it cannot be emptied while new ones come in. A
    client whose SYN is dropped sends it again a second later, and finds the port closed or another server.
    """
    if listener.family == socket.AF_UNIX:
        return  # nobody finds it: its file is gone
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _NO_SYN))
    with contextlib.suppress(OSError):  # a kernel without filters: a new client can be reset then
        listener.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HL", len(_NO_SYN), ctypes.addressof(program)),
        )


def has_waiting(listener: socket.socket) -> bool:
    """Whether a connection waits to be accepted."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    return bool(poll.poll(0))
