"""Ctrl-C while something loads that must not be broken off."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

__all__ = ["ctrl_c_waits", "end_at_once_by_ctrl_c"]


@contextlib.contextmanager
def ctrl_c_waits() -> Iterator[None]:
    """Raises KeyboardInterrupt only at the end of the block."""
    came: list[int] = []
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        if heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


def end_at_once_by_ctrl_c() -> None:
    """For a process that is about to exit: a traceback from here on would say nothing."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
