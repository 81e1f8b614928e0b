"""Keeps converted models in a folder that processes share.

Each model has a directory of its own, named by its key, with ``model.onnx`` and ``about.json``, which has its
hash. The directory is made under another name and renamed when it is whole. Who uses a model holds its lock
with others; who makes or removes one holds it alone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paddleinfer.backends.onnx.file_lock import locked, locked_at_once
from paddleinfer.errors import ModelLoadError, PaddleInferError
from paddleinfer.sentences import shown

__all__ = ["CachedModel", "ModelCache", "default_folder", "sha256_of"]

_log = logging.getLogger(__name__)

_MODEL = "model.onnx"
_ABOUT = "about.json"
_KEY = re.compile(r"[0-9a-f]{32}")
_BEING_MADE = re.compile(r"\.([0-9a-f]{32})-[0-9a-f]+")
_CHUNK_BYTES = 1 << 20
# A model that others remove as fast as it is made is given up after so many turns.
_MOST_TURNS = 10


def default_folder() -> Path:
    """Returns the folder of the user's caches that is ours.

    Raises
    ------
    ModelLoadError
        The user has no home.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):  # others are to be ignored, by the XDG base directory specification
        return Path(given, "paddleinfer", "onnx")
    try:
        return Path.home() / ".cache" / "paddleinfer" / "onnx"
    except RuntimeError:
        raise ModelLoadError(
            "there is no folder for converted models, for this user has no home; name one with onnx_cache"
        ) from None


def sha256_of(path: Path) -> str:
    """Returns a file's SHA-256 in hexadecimal digits; raises OSError if it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True)
class CachedModel:
    """One converted model in the folder."""

    key: str
    path: Path
    about: Mapping[str, Any]
    """What is known of its origin: "source" is the path of the Paddle model."""
    size_bytes: int
    used_seconds: float
    """When it was last used, in seconds since 1970."""


class ModelCache:
    """The converted models of a folder.

    Parameters
    ----------
    folder
        It is made when it is needed.
    max_bytes
        When a model is added, those that were used least recently go until the rest has no more bytes than
        this; the new one stays, and those in use.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    @contextlib.contextmanager
    def holding(
        self,
        key: str,
        about: Mapping[str, Any],
        make: Callable[[Path], None],
        waiting: Callable[[], object] = lambda: None,
    ) -> Iterator[Path]:
        """Yields the path of a model, which is made if it is missing or damaged, and stays for the block.

        Parameters
        ----------
        key
            32 hexadecimal digits.
        about
            What is to be known of its origin, as JSON has it.
        make
            Writes the model to the path that it gets; what else it writes into that directory goes again.
        waiting
            Is called again and again while another process makes the model; it may raise.

        Raises
        ------
        ModelLoadError
            The folder cannot be used, or is full. What `make` and `waiting` raise comes through.
        """
        self._refuse_other_text()
        lock = self._folder / f"{key}.lock"
        for _ in range(_MOST_TURNS):
            with contextlib.ExitStack() as held:
                with self._usable():
                    self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    held.enter_context(locked(lock, shared=True, waiting=waiting))
                    sound = self._is_sound(key)
                if sound:
                    with contextlib.suppress(OSError):  # the folder may be one that can only be read
                        os.utime(self._folder / key)
                    yield self._folder / key / _MODEL
                    return
            try:
                with self._usable(), locked(lock, shared=False, waiting=waiting):
                    if not self._is_sound(key):
                        self._make(key, about, make)
            except BaseException:
                with contextlib.suppress(OSError):
                    self._remove_traces(key)
                raise
            with self._usable():
                self._trim(key)
        raise ModelLoadError(
            f"the converted model {key} goes from {self._folder} again and again before it can be loaded; "
            "is another program emptying that folder?"
        )

    def remove(self, path: Path) -> None:
        """Removes a model of which it turned out that nothing can load it, unless another process uses it."""
        with contextlib.suppress(OSError):  # the folder may be one that can only be read
            self._remove(path.parent.name)

    def entries(self) -> list[CachedModel]:
        """Returns its models, the most recently used first.

        Raises
        ------
        ModelLoadError
            The folder cannot be read.
        """
        found = []
        with self._usable():
            names = os.listdir(self._folder) if self._folder.exists() else []
            for key in filter(_KEY.fullmatch, names):
                with contextlib.suppress(FileNotFoundError):  # it has just been removed
                    if self._is_ours(key):
                        found.append(self._entry(key))
        return sorted(found, key=lambda one: -one.used_seconds)

    def clear(self) -> tuple[list[CachedModel], list[CachedModel]]:
        """Removes all models but those in use; returns what it removed, and what is in use.

        Raises
        ------
        ModelLoadError
            The folder cannot be changed.
        """
        removed: list[CachedModel] = []
        in_use: list[CachedModel] = []
        for one in self.entries():
            with self._usable():
                (removed if self._remove(one.key) else in_use).append(one)
        with self._usable():
            names = os.listdir(self._folder) if self._folder.exists() else []
            keys = {found[1] for found in map(_BEING_MADE.fullmatch, names) if found}
            keys |= {name[: -len(".lock")] for name in names if name.endswith(".lock")}
            for key in filter(_KEY.fullmatch, keys):
                self._remove_traces(key)
        return removed, in_use

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except PaddleInferError:
            raise
        except OSError as error:
            helps = "free some space there, or name" if error.errno in _FULL else "name"
            raise ModelLoadError(
                f"converted models cannot be kept in {self._folder}: {self._reason(error)}"
                f"{'' if error.filename is None else f' ({error.filename})'}; {helps} another folder with "
                "onnx_cache"
            ) from error

    def _reason(self, error: OSError) -> str:
        if isinstance(error, FileExistsError):  # what is there is not even a link to a folder
            return "it is a link to nothing" if self._folder.is_symlink() else "it is not a folder"
        return error.strerror or str(error)

    def _refuse_other_text(self) -> None:
        try:
            os.fsencode(self._folder).decode()
        except UnicodeDecodeError:
            raise ModelLoadError(
                f"converted models cannot be kept in {shown(str(self._folder))}: paddle2onnx writes only to "
                "paths in UTF-8; name another folder with onnx_cache"
            ) from None

    def _is_sound(self, key: str) -> bool:
        """Tells whether the model is there with the hash that it had; its lock is held."""
        directory = self._folder / key
        try:
            about = json.loads((directory / _ABOUT).read_bytes())
            sound = bool(about["sha256"] == sha256_of(directory / _MODEL))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            sound = False
            if not directory.exists():
                return False
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            _log.warning("the converted model in %s is damaged, and is made again", directory)
        return sound

    def _make(self, key: str, about: Mapping[str, Any], make: Callable[[Path], None]) -> None:
        self._remove_unfinished(key)
        directory = self._folder / f".{key}-{secrets.token_hex(8)}"
        directory.mkdir(mode=0o700)
        try:
            work = directory / "work"
            work.mkdir()
            made = work / _MODEL
            make(made)
            made.rename(directory / _MODEL)
            shutil.rmtree(work)
            text = json.dumps({**about, "sha256": sha256_of(directory / _MODEL)}, indent=2)
            (directory / _ABOUT).write_text(text, encoding="utf-8")
            for name in (_MODEL, _ABOUT):
                with (directory / name).open("rb") as file:
                    os.fsync(file.fileno())  # some file systems report only now that they are full
            self._discard(key)
            directory.rename(self._folder / key)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _remove_unfinished(self, key: str) -> None:
        """Removes what processes left that were killed while they made this model; its lock is held alone."""
        for path in self._folder.glob(f".{key}-*"):
            _delete(path)

    def _discard(self, key: str) -> None:
        """Removes a model in two steps: one that is killed in between leaves what others remove."""
        if os.path.lexists(self._folder / key):
            going = self._folder / f".{key}-{secrets.token_hex(8)}"
            (self._folder / key).rename(going)
            _delete(going)

    def _trim(self, added: str) -> None:
        entries = self.entries()
        total = sum(one.size_bytes for one in entries)
        for one in reversed(entries):
            if total <= self._max_bytes:
                return
            if one.key != added and self._remove(one.key):
                total -= one.size_bytes
                _log.info("%s went from the folder of converted models, which was full", one.path)

    def _remove(self, key: str) -> bool:
        """Removes a model with all that belongs to it; returns False if it is in use."""
        lock = self._folder / f"{key}.lock"
        with locked_at_once(lock) as held:
            if not held:
                return False
            self._remove_unfinished(key)
            self._discard(key)
            lock.unlink()
        return True

    def _remove_traces(self, key: str) -> None:
        """Removes what was left of a model that is not there, by a process that was killed or that failed."""
        if not os.path.lexists(self._folder / key):
            self._remove(key)

    def _is_ours(self, key: str) -> bool:
        """Tells whether it is a model's directory: other programs name theirs by such hashes, too."""
        return any(os.path.isfile(self._folder / key / name) for name in (_MODEL, _ABOUT))

    def _entry(self, key: str) -> CachedModel:
        directory = self._folder / key
        size = sum(path.lstat().st_size for path in directory.iterdir())
        try:
            about = json.loads((directory / _ABOUT).read_bytes())
        except (FileNotFoundError, ValueError):
            about = {}
        if not isinstance(about, dict):
            about = {}
        return CachedModel(key, directory / _MODEL, about, size, directory.stat().st_mtime)

    def __repr__(self) -> str:
        return f"ModelCache({shown(str(self._folder))})"


def _delete(path: Path) -> None:
    """Removes a directory with what is in it, or a link to one alone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


_FULL = (errno.ENOSPC, errno.EDQUOT)
