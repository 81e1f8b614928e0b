"""Writes files so that their name holds the old content or the whole new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["replacing", "write_whole"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary file, which replaces `path` when the block ends without an exception.

    A pipe, a terminal or anything else that is not a regular file is written to directly, and so is a file in
    a directory where no other can be made. A symbolic link stays one.

    Raises
    ------
    OSError
        The file cannot be written or put in its place; the error names `path`.
    """
    target = Path(os.path.realpath(path))
    try:
        temporary = _beside(target)
        if temporary is None:
            yield target
            return
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # some file systems report only now that they are full
            _put_in_place(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        error.filename = os.fspath(path)
        raise


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file whole, or leaves the old one. Raises OSError as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _beside(target: Path) -> Path | None:
    """Makes a file beside the target, with its permissions; returns None where none can be made."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        return None
    temporary = target.with_name(f".{target.stem[:100]}-{secrets.token_hex(8)}{target.suffix}")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except PermissionError:
        if mode is None:
            raise
        return None
    if mode is not None:
        os.chmod(temporary, stat.S_IMODE(mode))
    return temporary


def _put_in_place(temporary: Path, target: Path) -> None:
    try:
        os.replace(temporary, target)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        shutil.copyfile(temporary, target)  # mounted by itself, as into a container
