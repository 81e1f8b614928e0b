"""Paddle Serving's ``PROFILE`` lines of a client: what each prediction took, on standard error."""

from __future__ import annotations

import os
import sys
import time

from paddleinfer.tracing.paddle_profile import profile_line

__all__ = ["StageClock", "is_asked_for"]

_FLAG = "FLAGS_profile_client"


def is_asked_for() -> bool:
    """Whether the environment asks for the lines."""
    return os.environ.get(_FLAG) == "1"


class StageClock:
    """The stages of one prediction, one after the other."""

    def __init__(self) -> None:
        self._stages: list[tuple[str, int, int]] = []
        self._begin_us = _now_us()

    def end(self, stage: str) -> None:
        """The stage that began with the end of the one before is over."""
        now_us = _now_us()
        self._stages.append((stage, self._begin_us, now_us))
        self._begin_us = now_us

    def line(self) -> str:
        """The line, without its newline."""
        # A clock that is set back meanwhile must not lose the line.
        forward = [(name, begin_us, max(begin_us, end_us)) for name, begin_us, end_us in self._stages]
        return profile_line(os.getpid(), forward)

    def write(self) -> None:
        """Writes the line to standard error."""
        print(self.line(), file=sys.stderr, flush=True)


def _now_us() -> int:
    return time.time_ns() // 1000
