"""Where ``paddleinfer-http`` begins: a signal ends it as documented from here on."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import FrameType

__all__ = ["main"]

_ENDED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until a signal; gives the process's exit code."""
    before = {number: signal.signal(number, _end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        from .cli import main as run

        return run(arguments)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    """At once: nothing listens yet. An exception could be lost in a callback that it interrupts."""
    os.write(
        2, f"paddleinfer-http: received {signal.Signals(number).name}; exiting before it serves\n".encode()
    )
    os._exit(_ENDED)
