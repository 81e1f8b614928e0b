"""Ends that nobody calls: interpreter exit, fork, Ctrl-C, and an engine dropped without close()."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import time
import weakref
from collections.abc import Iterator
from typing import Protocol

from paddleinfer.engine.greenlets import start_real_thread
from paddleinfer.errors import ThreadStartError

__all__ = ["defer_sigint", "end_at_once_by_sigint", "reap", "register"]

# At interpreter exit a run that takes longer than this is left to itself.
_EXIT_TIMEOUT_S = 3.0
_REAP_TIMEOUT_S = 30.0


class Closable(Protocol):
    """The core of an engine, as far as its end goes."""

    closed: bool
    forked: bool

    def close(self, drain: bool, timeout: float | None) -> tuple[int, int]:
        """Ends it."""

    def mark_forked(self) -> None:
        """Makes every use raise EngineClosed."""


# Cores, not engines: a dropped engine's core is still to be ended.
_cores: weakref.WeakSet[Closable] = weakref.WeakSet()


def register(core: Closable) -> None:
    """Has `core` closed at interpreter exit, and marked dead in forked children."""
    _cores.add(core)


def reap(core: Closable) -> None:
    """Closes a dropped engine's core on a thread of its own: a destructor must not wait."""
    if core.closed or core.forked:
        return
    try:
        start_real_thread("paddleinfer-reaper", core.close, False, _REAP_TIMEOUT_S)
    except ThreadStartError:  # the system has none, or the interpreter is on its way out
        core.close(False, 0.0)


@contextlib.contextmanager
def defer_sigint() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt only at the end of the block, which must not be broken off."""
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


def end_at_once_by_sigint() -> None:
    """For a process that is about to exit: a traceback from here on would say nothing."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _close_all() -> None:
    from paddleinfer import _ext

    end = time.monotonic() + _EXIT_TIMEOUT_S  # for all of them together
    try:
        for core in list(_cores):
            if not core.forked:
                core.close(False, max(0.0, end - time.monotonic()))
    finally:  # Ctrl-C ends the wait
        _ext.interpreter_ends()


def _mark_forked() -> None:
    core_module = sys.modules.get("paddleinfer._ext")
    if core_module is not None:
        core_module.in_forked_child()
    for core in list(_cores):
        core.mark_forked()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_mark_forked)
