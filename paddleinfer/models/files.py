"""Opens a model's files, and refuses files that only stand in for one."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from paddleinfer.errors import ModelLoadError

__all__ = [
    "MOST_PROGRAM_BYTES",
    "is_directory",
    "is_file",
    "opened",
    "read_whole",
    "readable",
    "refuse_stand_in",
    "refusing_damage",
]

MOST_PROGRAM_BYTES = 256 << 20
"""The size limit of a program file, which is read whole; the largest models' have tens of megabytes."""

_LFS_POINTER = b"version https://git-lfs"
_HEAD_BYTES = 64
# The exceptions that reading a program of an unexpected layout may raise.
_MALFORMED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)


# In some Pythons pathlib's own methods return False where the directory may not be searched.
def is_directory(path: Path) -> bool:
    """Tells whether the path is a directory.

    Raises
    ------
    OSError
        A directory of the path may not be searched.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_file(path: Path) -> bool:
    """Tells whether the path is a regular file.

    Raises
    ------
    ModelLoadError
        It is a dangling symbolic link, as an unfinished download leaves.
    OSError
        A directory of the path may not be searched.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except ValueError:  # no file's name contains a NUL
        return False
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise ModelLoadError(
                f"{path} is a symbolic link to {path.readlink()}, which does not exist"
            ) from None
        return False


def readable(name: str) -> str:
    """Returns a file's name as text that can be written anywhere; bytes that are not UTF-8 are escaped."""
    return name.encode(errors="backslashreplace").decode()


def refuse_stand_in(path: Path, head: bytes) -> None:
    """Check the first bytes of a file.

    Raises
    ------
    ModelLoadError
        The file is empty, or a Git LFS pointer instead of the file itself.
    """
    if not head:
        raise ModelLoadError(f"{path} is empty (0 bytes); copy or export the model again")
    if head.startswith(_LFS_POINTER):
        raise ModelLoadError(
            f"{path} is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`"
        )


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a model's file for reading. A pipe that has taken its place meanwhile does not block.

    Raises
    ------
    ModelLoadError
        It is not a regular file.
    OSError
        It cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ModelLoadError(f"{path} is not a regular file; copy or export the model again")
        yield file


def read_whole(path: Path, most_bytes: int = MOST_PROGRAM_BYTES) -> bytes:
    """All bytes of a file.

    Raises
    ------
    ModelLoadError
        `refuse_stand_in` refuses it, or it has more than `most_bytes`, of which no more is read.
    OSError
        The file cannot be read.
    """
    with opened(path) as file:
        data = file.read(_HEAD_BYTES)
        refuse_stand_in(path, data)
        size = os.fstat(file.fileno()).st_size
        if size <= most_bytes:
            data += file.read(size + 1)  # one more, in case it grows
            size = len(data)
    if size > most_bytes:
        raise ModelLoadError(
            f"{path} has {size:,} bytes, more than the {most_bytes:,} that such a file of a model may have"
        )
    return data


@contextlib.contextmanager
def refusing_damage(path: Path | None) -> Iterator[None]:
    """Wraps a second look into a program: whatever goes wrong in it is reported as damage of the file.

    Raises
    ------
    ModelLoadError
        The block raised what a program of an unexpected layout raises, or a file has gone.
    """
    try:
        yield
    except OSError as error:
        raise ModelLoadError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    except _MALFORMED as error:
        raise ModelLoadError(
            f"{path} is a Paddle program that is damaged ({type(error).__name__}: {error}); "
            "copy or export it again"
        ) from error
