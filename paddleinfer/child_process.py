"""Runs Python in a child process that a crash may end, and says how it ended."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = [
    "CRASHES",
    "NotStarted",
    "ended",
    "order_bytes",
    "python_code",
    "read_order",
    "run_python",
    "start_python",
]

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


class NotStarted(Exception):
    """No child can be started; the sentence says why."""


def python_code(module: str) -> str:
    """Returns the code for ``python -c`` that calls ``run()`` of a module of paddleinfer's.

    The child gets the pickled search path first on its standard input, to find an editable install and what
    the caller has added; what follows is for ``read_order()``.
    """
    return f"import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); from {module} import run; run()"


def run_python(
    code: str,
    order: object,
    ended_by: Callable[[Callable[[], object]], contextlib.AbstractContextManager[None]],
    *,
    longest_s: float,
    kept_open: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    prints: bool = False,
) -> tuple[int, bytes]:
    """Runs code in a child of Python, and waits until it has ended.

    Parameters
    ----------
    code
        What ``python_code`` returns, or other code that reads as much from its standard input.
    order
        What the child's ``read_order()`` returns.
    ended_by
        Wraps the wait for the child; what it gets ends the child.
    longest_s
        Seconds that it may take.
    kept_open
        File descriptors that the child inherits.
    environment
        Its environment; None gives it that of this process.
    prints
        Whether what it writes to standard output and error is wanted.

    Returns
    -------
    tuple
        Its exit code, and what it wrote.

    Raises
    ------
    NotStarted
        It cannot be started.
    OSError
        There is no memory to start it (ENOMEM).
    subprocess.TimeoutExpired
        It took longer, and was ended.
    """
    process = start_python(code, kept_open=kept_open, environment=environment, prints=prints)
    with process:
        try:
            with ended_by(process.kill):
                written, _ = process.communicate(order_bytes(order), timeout=longest_s)
        finally:
            process.kill()
    return process.returncode, written or b""


def start_python(
    code: str,
    *,
    kept_open: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    prints: bool = False,
    own_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Starts code in a child of Python, which waits for ``order_bytes`` on its standard input.

    Parameters
    ----------
    code, kept_open, environment, prints
        As for ``run_python``.
    own_session
        Whether it is out of reach of a terminal's Ctrl-C.

    Raises
    ------
    NotStarted
        It cannot be started.
    OSError
        There is no memory to start it (ENOMEM).
    """
    if not sys.executable:  # so it is in some programs that embed Python
        raise NotStarted("Python does not say where its interpreter is")
    try:
        return subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if prints else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            pass_fds=kept_open,
            env=environment,
            start_new_session=own_session,
        )
    except OSError as error:
        if error.errno == errno.ENOMEM:
            raise
        raise NotStarted(error.strerror or str(error)) from error


def order_bytes(order: object) -> bytes:
    """Returns what the child reads first: the search path, the order, and who its parent is."""
    return b"".join(map(pickle.dumps, (sys.path, order, os.getpid())))


def read_order() -> Any:
    """Returns the order, in the child; from then on the child ends with its parent."""
    order = pickle.load(sys.stdin.buffer)
    _die_with(pickle.load(sys.stdin.buffer))
    return order


def _die_with(parent: int) -> None:
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
