"""What requests of late cost around the engine: receiving, decoding, encoding and sending."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Final, NamedTuple

__all__ = ["ServedTimes", "StageLog"]

_KEPT: Final = 4096


class ServedTimes(NamedTuple):
    """One answered request. Instants are nanoseconds of ``time.monotonic_ns``."""

    headers_ns: int
    """Its headers were there."""
    received_ns: int
    """Its body was."""
    decoded_ns: int
    delivered_ns: int
    """The engine had given its result."""
    encoded_ns: int
    sent_ns: int
    """The answer was handed to the kernel, or waits for the client to read."""

    def stages(self) -> list[tuple[str, int, int]]:
        """(stage, begin, end) in nanoseconds; the time in the engine is "infer"."""
        names = ("receive", "decode", "infer", "encode", "send")
        return [(name, begin, end) for name, (begin, end) in zip(names, pairwise(self), strict=True)]


class StageLog:
    """The last requests of one model."""

    def __init__(self) -> None:
        self._log: deque[ServedTimes] = deque(maxlen=_KEPT)
        self.note = self._log.append
        """Takes the times of one request."""

    def since(self, begin_ns: int) -> list[ServedTimes]:
        """Those that were answered after an instant."""
        return [times for times in self._log if times.sent_ns > begin_ns]

    def outer_us(self) -> dict[str, list[float]]:
        """Stage -> microseconds of each request, without the engine's part."""
        times: dict[str, list[float]] = {"receive": [], "decode": [], "encode": [], "send": []}
        for served in self._log:
            for stage, begin, end in served.stages():
                if stage in times:
                    times[stage].append((end - begin) / 1e3)
        return times
