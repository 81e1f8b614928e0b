"""A lock that processes share, and threads of one: a file that is locked."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["locked", "locked_at_once"]

_POLL_S = 0.05


@contextlib.contextmanager
def locked(
    path: Path,
    *,
    shared: bool,
    waiting: Callable[[], object],
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Holds the lock in its block; `waiting` is called again and again until it has it, and may raise.

    Raises
    ------
    OSError
        The file cannot be made, or its file system has no locks.
    """
    while True:
        with _opened(path) as descriptor:
            while not _acquire(descriptor, shared):
                waiting()
                sleep(_POLL_S)
            try:
                if _is_still_there(descriptor, path):
                    yield
                    return
            finally:
                # A forked child may hold the descriptor, too, so that closing it would not do.
                fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextlib.contextmanager
def locked_at_once(path: Path) -> Iterator[bool]:
    """Yields whether it has the lock, for itself alone, without waiting. Raises OSError as `locked` does."""
    with _opened(path) as descriptor:
        held = _acquire(descriptor, shared=False)
        try:
            yield held and _is_still_there(descriptor, path)
        finally:
            if held:
                fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM) or not path.exists():
            raise
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # in a folder that may only be read
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, shared: bool) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still_there(descriptor: int, path: Path) -> bool:
    """Tells whether the locked file is the one that others will find: its holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
