"""Handles ends without close(): interpreter exit, fork, Ctrl-C, and an engine that is dropped."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Protocol

from paddleinfer.engine.greenlets import start_real_thread
from paddleinfer.errors import ThreadStartError

__all__ = ["defer_sigint", "end_at_once_by_sigint", "reap", "register"]

# At interpreter exit a run that takes longer than this is abandoned.
_EXIT_TIMEOUT_S = 3.0
_REAP_TIMEOUT_S = 30.0


class Closable(Protocol):
    """The part of an engine's core that ends it."""

    closed: bool
    forked: bool

    def close(self, drain: bool, timeout: float | None) -> tuple[int, int]:
        """Ends it."""

    def mark_forked(self) -> None:
        """Makes every use raise EngineClosed."""


# These are cores, not engines, because a dropped engine's core still has to be ended.
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
    except ThreadStartError:  # the system has no thread, or the interpreter is exiting
        core.close(False, 0.0)


@contextlib.contextmanager
def defer_sigint() -> Iterator[None]:
    """Delays Ctrl-C: KeyboardInterrupt is raised at the end of the block, which must not be interrupted."""
    came: list[int] = []
    in_main_thread = threading.current_thread() is threading.main_thread()
    heard = in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler
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
    """Has Ctrl-C end a process that is about to exit, without a traceback, which would say nothing."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _close_all() -> None:
    from paddleinfer import _ext

    end = time.monotonic() + _EXIT_TIMEOUT_S  # one limit for all of them together
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
