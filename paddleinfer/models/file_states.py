"""Whether files are still what they were: a model is checked, and read by Paddle some time after that."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from paddleinfer.errors import ModelLoadError

__all__ = ["FileState", "refuse_changed", "settled_states"]

# Kernels count the time of a change in steps of up to 10 ms: two changes in one step look like one.
_STEP_S = 0.02


@dataclass(frozen=True)
class FileState:
    """What differs once a file has been written to, or replaced."""

    path: Path
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    """Of its inode; nobody can set it back."""

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Raises OSError where there is none."""
        found = os.stat(path)
        return cls(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def settled_states(
    paths: Iterable[Path],
    now_ns: Callable[[], int] = time.time_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[FileState, ...]:
    """The states of files that are about to be read, once a further change of each would show.

    Raises
    ------
    OSError
        A file is missing.
    """
    paths = list(paths)
    while True:
        states = tuple(FileState.of(path) for path in paths)
        newest_ns = max((state.changed_ns for state in states), default=None)
        age_s = _STEP_S if newest_ns is None else (now_ns() - newest_ns) / 1e9
        if not 0 <= age_s < _STEP_S:  # a change in the future is another computer's clock
            return states
        sleep(_STEP_S - age_s)


def refuse_changed(states: Sequence[FileState], meanwhile: str) -> None:
    """Says so of the first file that is no longer what it was; `meanwhile` is what went on.

    Raises
    ------
    ModelLoadError
        There is one.
    """
    for before in states:
        try:
            now = FileState.of(before.path)
        except OSError:
            now = None
        if now != before:
            what = "was removed" if now is None else "changed"
            raise ModelLoadError(
                f"{before.path} {what} while the model was {meanwhile}; load it again once its files are "
                "complete"
            )
