"""Keeps the generations of one engine: which one is in service, reloads, and the end of all of them."""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from paddleinfer import _ext
from paddleinfer.config import CHECKS_OF_LOADS, CheckLoad, EngineConfig, check_choice, check_timeout
from paddleinfer.engine.generation import Generation, Loadable, ReloadReport
from paddleinfer.engine.opening import Opening, opening, saying_what_lacks_memory
from paddleinfer.engine.statistics import StatisticsAggregator
from paddleinfer.errors import ConfigError, EngineClosed, PaddleInferError
from paddleinfer.models.replacement import check_replacement
from paddleinfer.sentences import shown

__all__ = ["Generations", "Prepare"]

_log = logging.getLogger("paddleinfer")

Prepare = Callable[[Any, CheckLoad, Opening], tuple[Loadable, EngineConfig]]
"""Prepares a model for its start, from its path; returns it, and the options with those of a tuning file."""

Given = TypeVar("Given")

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    Arguments = TypeVarTuple("Arguments")


class Generations:
    """The generations of one engine. A call reads `present` once, and then belongs to that generation.

    Parameters
    ----------
    prepare
        The function that prepares each load.
    path
        The path of the first model.
    config, ring
        They are the same for all generations.

    Raises
    ------
    ConfigError, ModelLoadError, OutOfMemory, ThreadStartError
        The first model cannot be loaded.
    """

    def __init__(
        self,
        prepare: Prepare,
        path: str | os.PathLike[str] | None,
        config: EngineConfig,
        ring: _ext.TraceRing,
    ) -> None:
        with opening() as load:
            model, tuned = prepare(path, config.check_load, load)
            generation = Generation(1, model, tuned, ring)
            try:
                with load.ended_by(functools.partial(generation.core.close, False, 0.0)):
                    generation.open(model)
            except BaseException:
                generation.discard()
                raise
        self._prepare = prepare
        self._config = config
        self._ring = ring
        self.present = generation
        """The generation in service."""
        self.statistics = StatisticsAggregator()
        """The statistics of all generations together."""
        self.statistics.add(generation.core)
        # The generations that load, are in service, or are not closed yet. _changes guards them.
        self._all = [generation]
        self._closing = False
        self._changes = threading.RLock()
        self._reloads = threading.Lock()
        self._reloading_thread: int | None = None

    def call(
        self,
        what: Callable[[Generation, Unpack[Arguments]], Given],
        *arguments: Unpack[Arguments],
    ) -> Given:
        """Runs a call on the generation in service, and again on the next one if a reload came between."""
        generation = self.present
        while True:
            try:
                return what(generation, *arguments)
            except EngineClosed as error:
                generation = self.next_after(generation, error)

    def next_after(self, generation: Generation, error: EngineClosed) -> Generation:
        """Returns the one in service, for a call that `generation` refused because a reload had closed it.

        The call's timeout begins again; what has passed is only the time to convert its inputs.

        Raises
        ------
        EngineClosed
            The same `error`, if the call had been queued, or no reload has closed the generation.
        """
        present = self.present
        if error.accepted or generation is present:
            raise error
        return present

    def reload(
        self, path: str | os.PathLike[str] | None, timeout: float | None, check_load: CheckLoad | None
    ) -> ReloadReport:
        """See ``Engine.reload``."""
        check_timeout("timeout", timeout)
        if check_load is not None:
            check_choice("check_load", check_load, CHECKS_OF_LOADS)
        present = self.present
        present.check_process()
        self._check_thread("reloaded")
        if self._reloading_thread == threading.get_ident():
            raise PaddleInferError(f"{present.label} was reloaded from inside its own reload")
        with self._reloads:
            self._reloading_thread = threading.get_ident()
            try:
                began = time.monotonic()
                with opening() as load:
                    new = self._load(path, check_load or self._config.check_load, load)
                load_ms = (time.monotonic() - began) * 1e3
                drained = self._close_superseded(timeout)
            finally:
                self._reloading_thread = None
        return ReloadReport(new.number, str(new.spec.path), load_ms, drained)

    def close(self, drain: bool, timeout: float | None) -> None:
        """See ``Engine.close``."""
        check_timeout("timeout", timeout)
        if not isinstance(drain, bool):
            raise ConfigError(f"drain must be True or False, not {shown(drain)}")
        if self.present.core.forked:
            return
        self._check_thread("closed")
        with self._changes:
            self._closing = True
            # The present one first: it is the one that still takes requests.
            generations = sorted(self._all, key=lambda generation: generation is not self.present)
        end = _end_of(timeout)
        for generation in generations:
            generation.close(drain, _left(end))

    def _load(self, path: str | os.PathLike[str] | None, check_load: CheckLoad, load: Opening) -> Generation:
        """Loads a model and puts it into service. If that fails, the present one stays; the error says so."""
        present = self.present
        self._refuse_when_closed(present)
        if path is None and present.spec.program_path is not None:
            path = present.spec.path
        try:
            with saying_what_lacks_memory(path or present.spec.path):
                new = self._successor(present, path, check_load, load)
        except Exception as error:
            self._refuse_when_closed(present)
            if isinstance(error, PaddleInferError):
                sentence = f"{error}; the model loaded before stays in service"
                raise type(error)(sentence) from error.__cause__
            raise
        _log.info("%s has generation %d in service", new.label, new.number)
        return new

    def _successor(
        self, present: Generation, path: str | os.PathLike[str] | None, check_load: CheckLoad, load: Opening
    ) -> Generation:
        """Puts the next generation into service and returns it; nothing of it is left if that fails."""
        model, tuned = self._prepare(path, check_load, load)
        check_replacement(present.spec, model.spec)
        new = Generation(present.number + 1, model, tuned, self._ring)
        with self._changes:  # so that close() ends it while it loads
            self._refuse_when_closed(present)
            self._all.append(new)
        try:
            with load.ended_by(functools.partial(new.core.close, False, 0.0)):
                new.open(model)
            with self._changes:
                self._refuse_when_closed(present)
                self.statistics.add(new.core)
                self.present = new
        finally:
            if self.present is not new:
                new.discard()
                self._all.remove(new)
        return new

    def _close_superseded(self, timeout: float | None) -> bool:
        """Lets requests of earlier generations end; tells whether all of them did in time."""
        present = self.present
        end = _end_of(timeout)
        drained = True
        # There is more than one only if Ctrl-C has cut an earlier reload short.
        for generation in [generation for generation in self._all if generation is not present]:
            drained = generation.close(True, _left(end)) and drained
            with self._changes:
                self._all.remove(generation)
                self.statistics.retire(generation.core)
        self._refuse_when_closed(present)
        return drained

    def _refuse_when_closed(self, generation: Generation) -> None:
        if self._closing:
            raise EngineClosed(f"{generation.label} is closed")

    def _check_thread(self, action: str) -> None:
        for generation in list(self._all):
            generation.check_thread(action)


def _end_of(timeout: float | None) -> float | None:
    """Returns the instant `timeout` seconds from now."""
    return None if timeout is None else time.monotonic() + min(timeout, threading.TIMEOUT_MAX / 2)


def _left(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic())
