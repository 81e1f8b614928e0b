"""The inference requests of a server: how many are under way, and how much of them is in memory."""

from __future__ import annotations

from http import HTTPStatus

from ..protocol.buffered_bytes import BufferedBytes
from ..protocol.errors import RequestError
from .long_work import LongWork
from .turns import Turns

__all__ = ["Inference"]


class Inference:
    """Counts requests over HTTP and gRPC alike, and refuses those that there is no room for.

    `max_inflight` may be under way at once; None: any number.
    """

    def __init__(self, max_inflight: int | None, long_work: LongWork, max_buffered_bytes: int) -> None:
        self._max_inflight = max_inflight
        self.long_work = long_work
        self.bodies = BufferedBytes(max_buffered_bytes, "the bodies", ends_connection=True)
        self.results = BufferedBytes(max_buffered_bytes, "the results", ends_connection=False)
        """Those that wait to be written, or are compressed."""
        self.turns = Turns()
        """For what is read and written on the loop's own thread."""
        self.under_way = 0
        """Requests that have come whole, and whose answer has not left."""
        self.cut = 0
        """Requests that were cancelled under way while the server ended."""

    @property
    def has_room(self) -> bool:
        """Whether one more may begin."""
        return not self.results.is_full and (
            self._max_inflight is None or self.under_way < self._max_inflight
        )

    def check_room(self) -> None:
        """RequestError 429 where there is no room for one more."""
        if self.results.is_full:
            raise self.results.refusal()
        if not self.has_room:
            raise RequestError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self.under_way} requests are in flight, the most that --max-inflight allows",
                {"Retry-After": "1"},
            )

    def begin(self) -> None:
        """One more is under way, until end(); RequestError 429 where there is no room for it."""
        self.check_room()
        self.under_way += 1

    def end(self) -> None:
        """One is over."""
        self.under_way -= 1
