"""Opening a model's files, and refusing what only stands in for one."""

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
"""Of a program file, which is read whole; those of the largest models have some tens of megabytes."""

_LFS_POINTER = b"version https://git-lfs"
_HEAD_BYTES = 64
# What a program that is not laid out as expected raises where it is looked into.
_MALFORMED = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError)


# pathlib's own questions say False, in some Pythons, where the answer is that nobody may look.
def is_directory(path: Path) -> bool:
    """Whether a directory is there.

    Raises
    ------
    OSError
        A directory on the way may not be searched.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_file(path: Path) -> bool:
    """Whether a regular file is there.

    Raises
    ------
    ModelLoadError
        It is a symbolic link to nothing, as an unfinished download leaves it.
    OSError
        A directory on the way may not be searched.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except ValueError:  # a NUL in its name, of which there are no files
        return False
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise ModelLoadError(
                f"{path} is a symbolic link to {path.readlink()}, which does not exist"
            ) from None
        return False


def readable(name: str) -> str:
    """A file's name as text that can be written anywhere: what is not UTF-8 is escaped."""
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
    """A model's file, to be read: a pipe that has taken its place meanwhile is not waited for.

    Raises
    ------
    ModelLoadError
        It is no regular file.
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
        As `refuse_stand_in`; or there are more than `most_bytes`, of which no more is read.
    OSError
        The file cannot be read.
    """
    with opened(path) as file:
        data = file.read(_HEAD_BYTES)
        refuse_stand_in(path, data)
        size = os.fstat(file.fileno()).st_size
        if size <= most_bytes:
            data += file.read(size + 1)  # one more, in case that it grows
            size = len(data)
    if size > most_bytes:
        raise ModelLoadError(
            f"{path} has {size:,} bytes, more than the {most_bytes:,} that such a file of a model may have"
        )
    return data


@contextlib.contextmanager
def refusing_damage(path: Path | None) -> Iterator[None]:
    """For a look into a program that has been read before: what is wrong with it then is damage, too.

    Raises
    ------
    ModelLoadError
        The block raised what a program of another layout than expected raises; or a file has gone.
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
