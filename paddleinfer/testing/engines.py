"""Opens engines for a test, closes them, and checks that they have left nothing behind."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paddleinfer.engine.engine import Engine
from paddleinfer.engine.statistics import OUTCOMES
from paddleinfer.errors import ConfigError
from paddleinfer.testing.fake_predictor import FakePredictor

__all__ = ["EngineOpener"]

_INSTANCE_THREAD = re.compile(r"paddleinfer-\d+")
# Threads that are ending may need this long on a busy machine.
_GRACE_S = 2.0


@dataclass
class _Opened:
    engine: Engine
    description: str
    threads: dict[int, str] = field(default_factory=dict)
    """Native id -> name of its instances' threads."""


class EngineOpener:
    """Opens engines and closes them at the end.

    Parameters
    ----------
    close_timeout_s
        Seconds that each may take to close.
    """

    def __init__(self, close_timeout_s: float = 10.0) -> None:
        self._close_timeout_s = close_timeout_s
        self._opened: list[_Opened] = []
        self._predictors: list[FakePredictor] = []
        self._opening = threading.Lock()

    def __call__(
        self,
        model: str | os.PathLike[str] | Callable[[dict[str, Any]], Any],
        inputs: Mapping[str, tuple[str, Sequence[int]]] | None = None,
        outputs: Sequence[str] | Mapping[str, tuple[str, Sequence[int]]] | None = None,
        **options: Any,
    ) -> Engine:
        """Opens an engine.

        Parameters
        ----------
        model
            A model's path, as ``Engine`` takes it, or a function, as ``Engine.from_callable`` takes it.
        inputs, outputs
            The tensors of a function. A FakePredictor's default to {"x": ("float32", (-1, -1))} and ["y"].
        **options
            The options of ``Engine``. For a FakePredictor ``batchable`` defaults to True, so that none of its
            runs is a comparison.
        """
        if not callable(model):
            if inputs is not None or outputs is not None:
                raise ConfigError("inputs and outputs describe a function; a model's path stands for its own")
            return self._keep(lambda: Engine(model, **options))
        if isinstance(model, FakePredictor):
            inputs = model.inputs if inputs is None else inputs
            outputs = model.outputs if outputs is None else outputs
            if "config" not in options:
                options.setdefault("batchable", True)
            self._predictors.append(model)
        if inputs is None or outputs is None:
            raise ConfigError("a function needs inputs= and outputs=, as of Engine.from_callable")
        described, named = inputs, outputs
        return self._keep(lambda: Engine.from_callable(model, described, named, **options))

    def close(self) -> list[str]:
        """Closes all engines, and returns a sentence for each thing that is wrong with them afterwards."""
        for predictor in self._predictors:
            predictor.release()
        for opened in self._opened:
            opened.engine.close(timeout=self._close_timeout_s)
        end = time.monotonic() + _GRACE_S
        while True:
            problems = [problem for opened in self._opened for problem in _problems(opened)]
            if not problems or time.monotonic() > end:
                return problems
            time.sleep(0.005)

    def __repr__(self) -> str:
        return f"<EngineOpener, {len(self._opened)} engines>"

    def _keep(self, open_engine: Callable[[], Engine]) -> Engine:
        with self._opening:  # new threads then belong to this engine
            before = _instance_threads()
            engine = open_engine()
            opened = _Opened(engine, repr(engine).replace(", open>", ">"))
            opened.threads = {
                thread: name for thread, name in _instance_threads().items() if before.get(thread) != name
            }
            self._opened.append(opened)
        return engine


def _problems(opened: _Opened) -> list[str]:
    engine = opened.engine
    if engine._generation.core.forked:
        return []
    problems = []
    stats = engine.stats()
    ended = sum(stats[outcome] for outcome in OUTCOMES)
    if ended != stats["requests"]:
        listed = ", ".join(f"{stats[outcome]} {outcome}" for outcome in OUTCOMES if stats[outcome]) or "none"
        problems.append(
            f"{opened.description} lost requests: it accepted {stats['requests']}, "
            f"and {ended} ended ({listed})"
        )
    now = _instance_threads()
    alive = [name for thread, name in opened.threads.items() if now.get(thread) == name]
    completions = engine._generation.completions
    if completions is not None and completions.is_alive():
        alive.append(completions.name)
    if alive:
        problems.append(
            f"{opened.description} leaked threads: {', '.join(alive)} still alive after close(), "
            "as when a run of the model has not come back"
        )
    callers = _callers(engine)
    if callers:
        problems.append(
            f"{opened.description} leaked callers: {', '.join(callers)} still in a call of it after close()"
        )
    return problems


def _instance_threads() -> dict[int, str]:
    """Returns native id -> name of the instance threads of all engines."""
    found = {}
    for path in Path("/proc/self/task").iterdir():
        try:
            name = (path / "comm").read_text().strip()
        except OSError:  # the thread has ended meanwhile
            continue
        if _INSTANCE_THREAD.fullmatch(name):
            found[int(path.name)] = name
    return found


def _callers(engine: Engine) -> list[str]:
    """Returns the names of Python threads that are inside a method of the engine."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found = []
    for ident, top in sys._current_frames().items():
        frame = top if ident in names and ident != threading.get_ident() else None
        while frame is not None:
            if frame.f_code.co_varnames[:1] == ("self",) and frame.f_locals.get("self") is engine:
                found.append(names[ident])
                break
            frame = frame.f_back
    return found
