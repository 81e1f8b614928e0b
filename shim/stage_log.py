"""What requests of late cost around the engine: receiving, decoding, encoding and sending."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

from paddleinfer.paddle_profile import profile_line

__all__ = ["ServedTimes", "StageLog"]

_KEPT: Final = 4096
_FLAG: Final = "FLAGS_profile_server"


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
    """The last requests of one model.

    With ``FLAGS_profile_server=1`` in the environment each is also a line on stderr, as Paddle Serving's
    server times its three operators: reader, infer and response.
    """

    def __init__(self) -> None:
        self._log: deque[ServedTimes] = deque()
        self.keep(_KEPT)

    def keep(self, requests: int) -> None:
        """So many from now on, and never fewer than the default of the engine's ``trace_requests``."""
        self._log = deque(self._log, maxlen=max(_KEPT, requests))
        self.note = _profiled(self._log.append) if os.environ.get(_FLAG) == "1" else self._log.append
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


def _profiled(note: Callable[[ServedTimes], None]) -> Callable[[ServedTimes], None]:
    pid = os.getpid()
    epoch_ns = time.time_ns() - time.monotonic_ns()

    def noting(times: ServedTimes) -> None:
        note(times)
        bounds = (times.headers_ns, times.decoded_ns, times.delivered_ns, times.sent_ns)
        us = [(epoch_ns + instant) // 1000 for instant in bounds]
        print(
            profile_line(pid, [(f"op{n}", us[n], us[n + 1]) for n in range(3)]), file=sys.stderr, flush=True
        )

    return noting
