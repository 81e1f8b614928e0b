"""Tells whether files have changed between a model's check and the moment when Paddle reads them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from paddleinfer.errors import ModelLoadError

__all__ = ["FileState", "refuse_changed", "settled_states"]

# Kernels record the time of a change in steps of up to 10 ms: two changes in one step look like one.
_STEP_S = 0.02


@dataclass(frozen=True)
class FileState:
    """The facts about a file that differ once it has been written to or replaced."""

    path: Path
    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int
    """When its inode last changed; nobody can set this time back."""

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Reads a file's state; raises OSError if there is no such file."""
        found = os.stat(path)
        return cls(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def settled_states(
    paths: Iterable[Path],
    now_ns: Callable[[], int] = time.time_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[FileState, ...]:
    """Returns the states of files that are about to be read, once any further change of them would show.

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
        if not 0 <= age_s < _STEP_S:  # a change in the future comes from another computer's clock
            return states
        sleep(_STEP_S - age_s)


def refuse_changed(states: Sequence[FileState], meanwhile: str) -> None:
    """Raises for the first file that has changed; `meanwhile` says what was going on.

    Raises
    ------
    ModelLoadError
        A file has changed.
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
