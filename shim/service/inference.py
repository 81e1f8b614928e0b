"""Counts a server's inference requests: how many are under way, and how many bytes of them are in memory."""

from __future__ import annotations

from http import HTTPStatus

from ..protocol.buffered_bytes import BufferedBytes
from ..protocol.errors import RequestError
from .long_work import LongWork
from .turns import Turns

__all__ = ["Inference"]


class Inference:
    """Counts requests over HTTP and gRPC alike, and refuses those for which there is no room.

    At most `max_inflight` may be under way at once; None: any number.
    """

    def __init__(self, max_inflight: int | None, long_work: LongWork, max_buffered_bytes: int) -> None:
        self._max_inflight = max_inflight
        self.long_work = long_work
        self.bodies = BufferedBytes(max_buffered_bytes, "the bodies", ends_connection=True)
        self.results = BufferedBytes(max_buffered_bytes, "the results", ends_connection=False)
        """The bytes of results that wait to be written or are being compressed."""
        self.turns = Turns()
        """Shares the loop's own thread among bodies that are read and results that are written."""
        self.under_way = 0
        """Requests that have arrived whole and whose answers have not left."""
        self.cut = 0
        """Requests under way that were cancelled when the server ended."""

    @property
    def has_room(self) -> bool:
        """Tells whether one more may begin."""
        return not self.results.is_full and (
            self._max_inflight is None or self.under_way < self._max_inflight
        )

    def check_room(self) -> None:
        """Raises RequestError 429 if there is no room for one more."""
        if self.results.is_full:
            raise self.results.refusal()
        if not self.has_room:
            raise RequestError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self.under_way} requests are in flight, the most that --max-inflight allows",
                {"Retry-After": "1"},
            )

    def begin(self) -> None:
        """Counts one more under way, until end(); raises RequestError 429 if there is no room for it."""
        self.check_room()
        self.under_way += 1

    def end(self) -> None:
        """Counts a request that is over."""
        self.under_way -= 1
