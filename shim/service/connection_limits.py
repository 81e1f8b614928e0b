"""What all connections of a server may have at once: how many they are, and how much is unread of answers."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Protocol

__all__ = ["ConnectionLimits", "Unread", "network_of"]


class Unread(Protocol):
    """A connection whose client has not taken all of an answer."""

    @property
    def unsent_bytes(self) -> int:
        """Of the answer, in memory."""

    def drop(self) -> None:
        """Ends the connection at once; what is unsent is lost."""


class ConnectionLimits:
    """Counts connections, in all and of each address, and the bytes of answers that wait to be read."""

    def __init__(self, most: int, most_per_address: int, max_unsent_bytes: int) -> None:
        self.most = most
        self._most_per_address = most_per_address
        self._max_unsent_bytes = max_unsent_bytes
        self.open = 0
        self._by_address: Counter[str] = Counter()
        self._unread: dict[Unread, int] = {}
        """The oldest first, with how much of it there was when it was last looked at."""
        self._unread_bytes = 0
        self._held_since_look = 0

    def enter(self, address: str | None) -> str | None:
        """One more connection, until leave(); or the sentence why it cannot be.

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
        """One that has entered is over."""
        self.open -= 1
        if address is not None:
            network = network_of(address)
            self._by_address[network] -= 1
            if not self._by_address[network]:
                del self._by_address[network]

    def hold(self, connection: Unread) -> None:
        """Some of its answer waits to be read. In excess of the limit those go that have waited longest."""
        self._note(connection)
        self._held_since_look += 1
        if self._unread_bytes <= self._max_unsent_bytes:
            return
        # To look at all of them each time would take the loop away where they are thousands.
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
        """Its answer has been read, or nobody is there to read it."""
        self._unread_bytes -= self._unread.pop(connection, 0)


def network_of(address: str) -> str:
    """Who counts as one: an IPv4 address; of IPv6 the network of 64 bits, which one client has whole."""
    if ":" not in address:
        return address
    number = ipaddress.IPv6Address(address.partition("%")[0])
    if number.ipv4_mapped is not None:
        return str(number.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(number) >> 64 << 64, 64)))
