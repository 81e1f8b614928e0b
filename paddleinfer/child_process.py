"""Runs Python in a child process that a crash may end, and says how it ended."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

__all__ = ["CRASHES", "die_with", "ended", "python_code"]

CRASHES = frozenset(
    (
        signal.SIGSEGV,
        signal.SIGBUS,
        signal.SIGABRT,
        signal.SIGFPE,
        signal.SIGILL,
        signal.SIGTRAP,
        signal.SIGSYS,
    )
)
"""The signals that a process gets for its own faults; any other comes from outside."""

_PR_SET_PDEATHSIG = 1


def python_code(module: str) -> str:
    """Returns the code for ``python -c`` that calls ``run()`` of a module of paddleinfer's.

    The child gets the pickled search path first on its standard input, to find an editable install and what
    the caller has added; what follows is for the module.
    """
    return f"import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from {module} import run; run()"


def die_with(parent: int) -> None:
    """Has the kernel end this child once its parent has ended, and lets it leave no core file."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def ended(code: int) -> str:
    """Says with what a process ended: "with SIGSEGV", "with the exit code 1"."""
    return f"with {_signal_name(-code)}" if code < 0 else f"with the exit code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name
        return f"signal {number}"
