"""Makes functions whose answers tell which generation of the engine ran them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from engine_helpers import PATIENCE_S, Arrays, engine_of, eventually, rows

import paddleinfer


class Versions:
    """Answers with the version that was current when its instance first ran; runs of held versions wait."""

    def __init__(self) -> None:
        self.current = 1
        self.broken: set[int] = set()
        self._threads = threading.local()  # an instance's thread belongs to one generation
        self._gates: dict[int, threading.Event] = {}
        self._entered = threading.Semaphore(0)

    def __call__(self, inputs: Arrays) -> Arrays:
        version = self._threads.__dict__.setdefault("version", self.current)
        if version in self.broken:
            raise ValueError(f"version {version} is broken")
        gate = self._gates.get(version)
        if gate is not None:
            self._entered.release()
            assert gate.wait(PATIENCE_S), "nobody let it go on"
        return {"y": np.full_like(inputs["x"], version)}

    def hold(self, version: int) -> None:
        self._gates[version] = threading.Event()

    def let_go(self, version: int) -> None:
        self._gates.pop(version).set()

    def wait_entered(self) -> None:
        """Until one more run is held."""
        assert self._entered.acquire(timeout=PATIENCE_S)


@contextmanager
def versioned(**options: Any) -> Iterator[tuple[paddleinfer.Engine, Versions]]:
    """An engine of one instance that has answered with version 1; the next reload's is version 2."""
    model = Versions()
    with engine_of(model, **options) as engine:
        try:
            assert answer(engine.infer(rows())) == 1
            model.current = 2
            yield engine, model
        finally:
            for version in list(model._gates):
                model.let_go(version)


def answer(results: Arrays) -> float:
    """The one value that all of a result has."""
    (array,) = results.values()
    assert (array == array.flat[0]).all(), "an answer of two models"
    return float(array.flat[0])


class Background:
    """A call on a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._outcome: list[Any] = []
        self._error: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._outcome.append(call())
        except BaseException as error:
            self._error.append(error)

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(PATIENCE_S)
        assert self.ended
        if self._error:
            raise self._error.pop()
        return self._outcome[0]


def wait_generation(engine: paddleinfer.Engine, number: int) -> None:
    assert eventually(lambda: engine.stats()["generation"] == number, PATIENCE_S)


class Meanwhile:
    """A row that has something done the first time it is read: a call's generation is taken by then."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._actions = [action]

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        while self._actions:
            self._actions.pop()()
        return rows()
