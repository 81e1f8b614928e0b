"""The entry point of ``paddleinfer-http``; from here on a signal ends the process as documented."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import FrameType

__all__ = ["main"]

_ENDED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until a signal, and returns the exit code of the process."""
    before = {number: signal.signal(number, _end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        from .cli import main as run

        return run(arguments)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: FrameType | None) -> None:
    """Ends the process at once: nothing listens yet, and an exception could get lost in a callback."""
    os.write(
        2, f"paddleinfer-http: received {signal.Signals(number).name}; exiting before it serves\n".encode()
    )
    os._exit(_ENDED)
