"""Shares engines between those in a process who ask for the same model with the same options."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path

from paddleinfer.config import EngineConfig
from paddleinfer.engine.engine import Engine
from paddleinfer.errors import EngineClosed, ModelLoadError
from paddleinfer.models.file_states import refuse_changed

__all__ = ["EngineLease", "lease_engine"]


class EngineLease:
    """The right of one user to a shared engine, which closes with the last of them.

    A lease that is dropped has ended; an engine that no lease is left of is closed on a thread of its own.
    """

    def __init__(self, shared: _Shared) -> None:
        self._shared: _Shared | None = shared

    @property
    def engine(self) -> Engine:
        """The engine.

        Raises
        ------
        EngineClosed
            The lease was closed.
        """
        shared = self._shared
        if shared is None:
            raise EngineClosed("this use of the engine is closed; ask for another one")
        return shared.engine

    @property
    def closed(self) -> bool:
        """Whether the lease or its engine was closed."""
        shared = self._shared
        return shared is None or shared.engine.closed

    def another(self) -> EngineLease:
        """Gives a further user the same engine.

        Raises
        ------
        EngineClosed
            The lease was closed.
        """
        with _registry.changes:
            shared = self._shared
            if shared is None:
                raise EngineClosed("this use of the engine is closed; ask for another one")
            return shared.leased()

    def close(self) -> None:
        """Ends the lease, and with the last one the engine, as ``Engine.close``. Again does nothing."""
        with _registry.changes:
            shared, self._shared = self._shared, None
            if shared is None:
                return
            shared.leases.discard(self)
            is_last = not shared.leases
            if is_last:
                _registry.shared.discard(shared)
        if is_last:
            shared.engine.close()


class _Shared:
    """One engine, and who uses it."""

    def __init__(self, key: str, engine: Engine) -> None:
        self.key = key
        self.engine = engine
        self.leases: weakref.WeakSet[EngineLease] = weakref.WeakSet()

    def leased(self) -> EngineLease:
        lease = EngineLease(self)
        self.leases.add(lease)
        return lease

    @property
    def is_current(self) -> bool:
        """Whether it is open, and its files are still those that it was loaded from."""
        if self.engine.closed:
            return False
        try:
            refuse_changed(self.engine.model.files, "in service")
        except ModelLoadError:
            return False
        return True


def lease_engine(path: str | os.PathLike[str], config: EngineConfig) -> EngineLease:
    """Returns a lease of the engine over this model with these options, which is opened if there is none.

    Threads that ask for the same at once get the same. Where files have changed meanwhile a new engine is
    opened, and the earlier one goes on with what it loaded.

    Raises
    ------
    ConfigError, ModelLoadError, OutOfMemory, ThreadStartError
        As of ``Engine``.
    """
    key = repr((os.path.realpath(path), config, sorted(config.origins.items())))
    with _registry.load_of(key):
        with _registry.changes:
            for shared in list(_registry.shared):
                if shared.key == key and shared.is_current:
                    return shared.leased()
        shared = _Shared(key, Engine(Path(os.fsdecode(path)), config))
        with _registry.changes:
            _registry.shared.add(shared)
            return shared.leased()


class _Load:
    """A lock that a weak reference can be made to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class _Registry:
    """The shared engines of a process."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begins with none; also in a forked child, whose parent's threads may have held the locks."""
        # It is reentrant, because signal handlers and destructors may close a lease.
        self.changes = threading.RLock()
        self.shared: weakref.WeakSet[_Shared] = weakref.WeakSet()
        self._loads: weakref.WeakValueDictionary[str, _Load] = weakref.WeakValueDictionary()

    def load_of(self, key: str) -> _Load:
        """Returns the lock under which this model is looked for, and opened."""
        with self.changes:
            return self._loads.setdefault(key, _Load())


_registry = _Registry()
os.register_at_fork(after_in_child=_registry.begin)
