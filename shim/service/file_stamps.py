"""The states of a model's files, by which a change shows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from paddleinfer.options.tuning_file import TUNING_FILE_NAME

from .served_models import ServedModel

__all__ = ["Stamps", "stamps_around", "stamps_of", "stamps_when_read"]

# Paddle Serving reloads a model when this file beside it is touched.
_STAMP: Final = "fluid_time_file"
# Files beside the model that are read with it.
_BESIDE: Final = (_STAMP, "inference.yml", TUNING_FILE_NAME)

Stamps = tuple[tuple[str, int, int, int], ...]
"""Name, inode, time of the last change and size of every file."""


def stamps_of(model: ServedModel) -> Stamps:
    """Returns the states of a model's files; empty while one is missing, or where they are not known."""
    try:
        return _stamps(_files(model))
    except OSError:
        return ()


def stamps_when_read(model: ServedModel) -> Stamps:
    """Returns the files as they were when the model read them: one may have changed since."""
    read = {} if model.engine is None else {state.path.name: state for state in model.engine.model.files}
    stamps = []
    for stamp in stamps_of(model):
        state = read.get(stamp[0])
        stamps.append(stamp if state is None else (stamp[0], state.inode, state.modified_ns, state.size))
    return tuple(stamps)


def stamps_around(path: Path) -> Stamps:
    """Returns the states of all files around a model whose own files are not known.

    Raises
    ------
    OSError
        A file or the directory is not there any more.
    """
    directory = path if path.is_dir() else path.parent
    return _stamps(sorted(file for file in directory.iterdir() if file.is_file()))


def _stamps(paths: list[Path]) -> Stamps:
    facts = [(path.name, path.stat()) for path in paths]
    return tuple((name, fact.st_ino, fact.st_mtime_ns, fact.st_size) for name, fact in facts)


def _files(model: ServedModel) -> list[Path]:
    if model.engine is None:
        return []
    spec = model.engine.model
    program = spec.program_path
    if program is None:
        return []
    beside = [program.parent / name for name in _BESIDE]
    return [*(state.path for state in spec.files), *(path for path in beside if path.exists())]
