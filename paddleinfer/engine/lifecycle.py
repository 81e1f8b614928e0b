"""The ends that nobody calls: interpreter exit, fork, and an engine that is dropped without close()."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from typing import Protocol

__all__ = ["reap", "register"]

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
        threading.Thread(
            target=core.close, args=(False, _REAP_TIMEOUT_S), name="paddleinfer-reaper", daemon=True
        ).start()
    except RuntimeError:  # the interpreter is on its way out and starts no threads
        core.close(False, 0.0)


def _close_all() -> None:
    from paddleinfer import _ext

    end = time.monotonic() + _EXIT_TIMEOUT_S  # for all of them together
    for core in list(_cores):
        if not core.forked:
            core.close(False, max(0.0, end - time.monotonic()))
    _ext.interpreter_ends()


def _mark_forked() -> None:
    for core in list(_cores):
        core.mark_forked()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_mark_forked)
