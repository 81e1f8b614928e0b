"""Undoes what importing Paddle changes in the process.

Paddle gives the root logger a handler and a level, writes to ``os.environ``, and installs handlers for six
signals, SIGTERM among them, that end the process with a report. Changes by other threads meanwhile stay.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.abc
import importlib.machinery
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["left_as_it_was"]

_SA_RESTORER = 0x04000000  # set by the C library itself
# paddle.base.core.init_glog() starts Paddle's logging and installs its handlers.
_CORE, _STARTS_LOGGING = "paddle.base.core", "init_glog"
# This does the same without the handlers; Paddle's library exports it.
_START_LOGGING = "_ZN6google17InitGoogleLoggingEPKc"

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def left_as_it_was() -> Iterator[None]:
    """Restores the process after a block that imports Paddle."""
    with _one_at_a_time, _handlers_kept(), _handlers_never_seen(), _root_logger_kept(), _environment_kept():
        yield


# -- signals


class _SigAction(ctypes.Structure):
    """glibc's struct, with more room than any C library needs."""

    _fields_ = (
        ("handler", ctypes.c_size_t),
        ("mask", ctypes.c_ulong * 16),  # the kernel knows the first word
        ("flags", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )

    @property
    def invocation(self) -> tuple[int, int]:
        """The settings with which its handler is called."""
        return self.mask[0], self.flags & ~_SA_RESTORER


class _DlInfo(ctypes.Structure):
    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Removes Paddle's handlers, and restores those that were there before.

    It calls the C library, because signal.signal works on the main thread only, models are also loaded on
    others, and an application's handler need not be one of Python's.
    """
    # PyDLL keeps the GIL: another thread could hold it for milliseconds while Paddle's handlers are in force.
    sigaction = ctypes.PyDLL(None).sigaction
    before = {}
    for number in sorted(
        signal.valid_signals(), key=lambda number: number != signal.SIGTERM
    ):  # it comes first
        action = _SigAction()
        if sigaction(number, None, ctypes.byref(action)) == 0:
            before[number] = action
    try:
        yield
    finally:
        for number, action in before.items():
            present = _SigAction()
            sigaction(number, None, ctypes.byref(present))
            # A library that tries an instruction out restores SIGILL's handler, but not the flags.
            flags_lost = present.handler == action.handler and present.invocation != action.invocation
            if flags_lost or (present.handler != action.handler and _is_paddles(present.handler)):
                sigaction(number, ctypes.byref(action), None)


def _is_paddles(address: int) -> bool:
    """Tells whether a handler is in one of Paddle's libraries; another thread may have set others."""
    info = _DlInfo()
    found = ctypes.PyDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(info))
    return bool(found and info.file and "paddle" in Path(os.fsdecode(info.file)).parts)


@contextlib.contextmanager
def _handlers_never_seen() -> Iterator[None]:
    """Keeps Paddle from installing its handlers at all.

    Removing them, however soon, would be too late: any thread, NumPy's included, may get a signal.
    """
    finder = _CoreFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _CoreFinder(importlib.abc.MetaPathFinder):
    """Finds Paddle's core as usual, and makes its logging start without the handlers."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _CORE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _CoreLoader(spec.loader.name, spec.loader.path)
        return spec


class _CoreLoader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if hasattr(module, _STARTS_LOGGING):  # a Paddle without it installs them elsewhere
            setattr(module, _STARTS_LOGGING, _without_handlers(module))


def _without_handlers(core: Any) -> Callable[[str], None]:
    """Starts Paddle's logging only once: glog ends a process that starts it twice."""
    with_handlers = getattr(core, _STARTS_LOGGING)
    try:
        start: Any = getattr(ctypes.PyDLL(core.libpaddle.__file__), _START_LOGGING)
    except (AttributeError, OSError):  # it is not exported: the handlers are in force for a moment
        start = None

    started: list[ctypes.Array[ctypes.c_char]] = []

    def init_glog(program: str) -> None:
        if start is None:
            with _handlers_kept():
                with_handlers(program)
        elif not started:
            started.append(ctypes.create_string_buffer(os.fsencode(program)))  # glog keeps the name's address
            start(started[0])

    return init_glog


# -- logging


@contextlib.contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Keeps this thread from changing the root logger's handlers or level; other threads still can."""
    root, importer = logging.getLogger(), threading.get_ident()
    changes = {name: getattr(root, name) for name in ("addHandler", "setLevel")}

    def by_others(change: Callable[[Any], None]) -> Callable[[Any], None]:
        def guarded(value: Any) -> None:
            if threading.get_ident() != importer:
                change(value)

        return guarded

    for name, change in changes.items():
        setattr(root, name, by_others(change))
    try:
        yield
    finally:
        for name in changes:
            delattr(root, name)


# -- the environment


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Undoes what this thread writes to ``os.environ``, unless another thread has changed it since."""
    importer, environment = threading.get_ident(), os.environ
    kind: Any = type(environment)
    before: dict[str, str | None] = {}
    written: dict[str, str | None] = {}

    def note(key: str, value: str | None) -> None:
        if threading.get_ident() == importer:
            before.setdefault(key, environment.get(key))
            written[key] = value

    class Recording(kind):  # type: ignore[misc]
        def __setitem__(self, key: str, value: str) -> None:
            note(key, value)
            super().__setitem__(key, value)

        def __delitem__(self, key: str) -> None:
            note(key, None)
            super().__delitem__(key)

    environment.__class__ = Recording
    try:
        yield
    finally:
        environment.__class__ = kind
        _read_by_openmp()
        for key, value in written.items():
            if environment.get(key) != value:
                continue
            original = before[key]
            if original is None:
                environment.pop(key, None)
            else:
                environment[key] = original


def _read_by_openmp() -> None:
    """Has Paddle's OpenMP read OMP_NUM_THREADS while it holds what Paddle wrote: it reads it at first use."""
    paddle = sys.modules.get("paddle")
    for folder in getattr(paddle, "__path__", ()):
        library = Path(folder, "libs", "libiomp5.so")
        if library.exists():
            ctypes.CDLL(str(library)).omp_get_max_threads()
