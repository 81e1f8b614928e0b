"""Logs what recent requests cost outside the engine: receiving, decoding, encoding and sending."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from paddleinfer.tracing.paddle_profile import profile_line

__all__ = ["ServedTimes", "StageLog", "Tensors"]

Array = npt.NDArray[Any]
Tensors = list[tuple[str, np.dtype[Any], tuple[int, ...]]]
"""(name, dtype, shape) of each tensor."""

_KEPT: Final = 4096
# One request in this many is sampled; a power of two.
_SAMPLED: Final = 64
_FLAG: Final = "FLAGS_profile_server"


class ServedTimes(NamedTuple):
    """One answered request. Instants are nanoseconds of ``time.monotonic_ns``."""

    headers_ns: int
    """When its headers had come."""
    received_ns: int
    """When its body had come."""
    decoded_ns: int
    delivered_ns: int
    """When the engine had given its result."""
    encoded_ns: int
    sent_ns: int
    """When the answer was passed to the kernel, or began to wait for the client to read."""
    json: bool = False
    """Whether neither it nor the answer had a binary tensor."""

    def stages(self) -> list[tuple[str, int, int]]:
        """Returns (stage, begin, end) in nanoseconds; the time in the engine is "infer"."""
        names = ("receive", "decode", "infer", "encode", "send")
        return [(name, begin, end) for name, (begin, end) in zip(names, pairwise(self[:6]), strict=True)]


class StageLog:
    """The last requests of one model.

    With ``FLAGS_profile_server=1`` in the environment each also prints a line to stderr, with Paddle
    Serving's times of its three operators: reader, infer and response.
    """

    def __init__(self) -> None:
        self._log: deque[ServedTimes] = deque()
        self._seen = 0
        self.inputs: Tensors = []
        """The inputs of a recent request."""
        self.outputs: Tensors = []
        """The outputs of its answer."""
        self.keep(_KEPT)

    def keep(self, requests: int) -> None:
        """Keeps this many from now on, and never fewer than the engine's default ``trace_requests``."""
        self._log = deque(self._log, maxlen=max(_KEPT, requests))
        self.note = _profiled(self._log.append) if os.environ.get(_FLAG) == "1" else self._log.append
        """Adds the times of one request."""

    def look_at(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Keeps the shapes of a request's tensors, now and then."""
        if self._seen & (_SAMPLED - 1) == 0:
            self.inputs, self.outputs = _described(inputs), _described(outputs)
        self._seen += 1

    def since(self, begin_ns: int) -> list[ServedTimes]:
        """Returns requests that were answered after an instant."""
        return [times for times in self._log if times.sent_ns > begin_ns]

    def copy(self) -> StageLog:
        """Returns a copy for another thread."""
        other = StageLog()
        other._log, other.inputs, other.outputs = self._log.copy(), self.inputs, self.outputs
        return other

    def recent(self) -> list[ServedTimes]:
        """Returns all that are kept."""
        return list(self._log)

    def outer_us(self) -> dict[str, list[float]]:
        """Returns stage -> microseconds of each request, without the engine's part."""
        times: dict[str, list[float]] = {"receive": [], "decode": [], "encode": [], "send": []}
        for served in self._log:
            for stage, begin, end in served.stages():
                if stage in times:
                    times[stage].append((end - begin) / 1e3)
        return times


def _described(tensors: Mapping[str, Array]) -> Tensors:
    return [(name, array.dtype, array.shape) for name, array in tensors.items()]


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
