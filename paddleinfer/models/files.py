"""Opening a model's files, and refusing what only stands in for one."""

from __future__ import annotations

import stat
from pathlib import Path

from paddleinfer.errors import ModelLoadError

__all__ = ["is_directory", "is_file", "read_whole", "refuse_stand_in"]

_LFS_POINTER = b"version https://git-lfs"


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
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise ModelLoadError(
                f"{path} is a symbolic link to {path.readlink()}, which does not exist"
            ) from None
        return False


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


def read_whole(path: Path) -> bytes:
    """All bytes of a file.

    Raises
    ------
    ModelLoadError
        As `refuse_stand_in`.
    OSError
        The file cannot be read.
    """
    data = path.read_bytes()
    refuse_stand_in(path, data)
    return data
