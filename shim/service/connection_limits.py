"""Limits all connections of a server together: their number, and the bytes of unread answers."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Protocol

__all__ = ["ConnectionLimits", "Unread", "network_of"]


class Unread(Protocol):
    """A connection whose client has not read all of an answer."""

    @property
    def unsent_bytes(self) -> int:
        """The bytes of the answer that are still in memory."""

    def drop(self) -> None:
        """Ends the connection at once; unsent bytes are lost."""


class ConnectionLimits:
    """Counts connections, in all and by address, and the bytes of answers that wait to be read."""

    def __init__(self, most: int, most_per_address: int, max_unsent_bytes: int) -> None:
        self.most = most
        self._most_per_address = most_per_address
        self._max_unsent_bytes = max_unsent_bytes
        self.open = 0
        self._by_address: Counter[str] = Counter()
        self._unread: dict[Unread, int] = {}
        """Unread answers, the oldest first, with their bytes when they were last looked at."""
        self._unread_bytes = 0
        self._held_since_look = 0

    def enter(self, address: str | None) -> str | None:
        """Counts one more connection, until leave(); returns a sentence if it is refused.

        `address` is the client's, or None over a Unix socket.
        """
        if self.open >= self.most:
            return f"{self.open} connections are open, and --max-connections allows no more"
        if address is not None:
            network = network_of(address)
            if self._by_address[network] >= self._most_per_address:
                return (
                    f"{self._most_per_address} connections from {network} are open, "
                    "and --max-connections-per-address allows no more"
                )
            self._by_address[network] += 1
        self.open += 1
        return None

    def leave(self, address: str | None) -> None:
        """Counts a connection that has ended."""
        self.open -= 1
        if address is not None:
            network = network_of(address)
            self._by_address[network] -= 1
            if not self._by_address[network]:
                del self._by_address[network]

    def hold(self, connection: Unread) -> None:
        """Notes that some of its answer waits to be read; past the limit, drops those that waited longest."""
        self._note(connection)
        self._held_since_look += 1
        if self._unread_bytes <= self._max_unsent_bytes:
            return
        # Looking at all of them each time would hold up the loop if there are thousands.
        if self._held_since_look > len(self._unread) // 8:
            self._held_since_look = 0
            for one in self._unread:
                self._note(one)
        while self._unread_bytes > self._max_unsent_bytes and len(self._unread) > 1:
            oldest = next(iter(self._unread))
            self.release(oldest)
            oldest.drop()

    def _note(self, connection: Unread) -> None:
        size_bytes = connection.unsent_bytes
        self._unread_bytes += size_bytes - self._unread.get(connection, 0)
        self._unread[connection] = size_bytes

    def release(self, connection: Unread) -> None:
        """Notes that its answer has been read, or that nobody is there to read it."""
        self._unread_bytes -= self._unread.pop(connection, 0)


def network_of(address: str) -> str:
    """Returns what counts as one client: an IPv4 address, or an IPv6 network of 64 bits."""
    if ":" not in address:
        return address
    number = ipaddress.IPv6Address(address.partition("%")[0])
    if number.ipv4_mapped is not None:
        return str(number.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(number) >> 64 << 64, 64)))
