"""Keeps a program in a file of its own as long as Paddle may read it."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path

__all__ = ["TemporaryProgram"]


class TemporaryProgram:
    """A ``.json`` program in a directory that only this user can read; it is removed with the object.

    Raises
    ------
    OSError
        No file can be written.
    """

    def __init__(self, program: bytes) -> None:
        directory = tempfile.mkdtemp(prefix="paddleinfer-")
        self._finalizer = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        self.path = Path(directory) / "inference.json"
        self.path.write_bytes(program)

    def remove(self) -> None:
        """Removes the file now."""
        self._finalizer()
