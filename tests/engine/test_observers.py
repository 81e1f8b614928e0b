"""engine.observer is told of every request, whichever call makes it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from engine_helpers import Arrays, engine_of, rows

import paddleinfer
from paddleinfer.engine.observers import RequestObserver
from paddleinfer.explanation import InferInfo


class Notes:
    """Writes down what it is told; it does not want those that are made while it is `deaf`."""

    def __init__(self) -> None:
        self.begun = 0
        self.told: list[tuple[int, str, bool]] = []
        """Request, how it ended, whether it ran."""
        self.deaf = False

    def begin(self, generation: int) -> int | None:
        assert generation == 1
        self.begun += 1
        return None if self.deaf else self.begun

    def end(self, request: int, info: InferInfo | None, at_ns: int | None) -> None:
        self.told.append((request, "result", info is not None))

    def fail(self, request: int, error: BaseException, info: InferInfo | None, at_ns: int | None) -> None:
        self.told.append((request, type(error).__name__, info is not None))


def picky(feeds: Arrays) -> Arrays:
    if (feeds["x"] < 0).any():
        raise ValueError("a negative number")
    return {"y": feeds["x"]}


@pytest.fixture
def observed() -> Iterator[tuple[paddleinfer.Engine, Notes]]:
    notes = Notes()
    observer: RequestObserver = notes
    with engine_of(picky) as engine:
        engine.observer = observer
        yield engine, notes


def by_infer(engine: paddleinfer.Engine, x: Any) -> None:
    engine.infer({"x": x})


def by_submit(engine: paddleinfer.Engine, x: Any) -> None:
    engine.submit({"x": x}).result()


def by_ainfer(engine: paddleinfer.Engine, x: Any) -> None:
    asyncio.run(engine.ainfer({"x": x}))


def by_infer_many(engine: paddleinfer.Engine, x: Any) -> None:
    list(engine.infer_many([{"x": x}]))


CALLS = (by_infer, by_submit, by_ainfer, by_infer_many)


@pytest.mark.parametrize("call", CALLS)
def test_each_request_is_told_of_once(call: Any, observed: tuple[paddleinfer.Engine, Notes]) -> None:
    engine, notes = observed
    call(engine, rows())
    with pytest.raises(paddleinfer.ModelError):
        call(engine, rows(value=-1))
    with pytest.raises(paddleinfer.InvalidInput):
        call(engine, "no array")
    engine.close()  # a future's callbacks may follow its result, and the next request
    first, *others = sorted(notes.told)
    assert first == (1, "result", True)
    assert [(number, how) for number, how, _ in others] == [(2, "ModelError"), (3, "InvalidInput")]


@pytest.mark.parametrize("call", CALLS)
def test_what_an_observer_does_not_want_is_not_told(
    call: Any, observed: tuple[paddleinfer.Engine, Notes]
) -> None:
    engine, notes = observed
    notes.deaf = True
    call(engine, rows())
    with pytest.raises(paddleinfer.ModelError):
        call(engine, rows(value=-1))
    engine.close()
    assert notes.begun == 2 and notes.told == []


def test_items_of_a_stream_that_nobody_reads_on_end_as_cancelled(
    observed: tuple[paddleinfer.Engine, Notes],
) -> None:
    engine, notes = observed
    stream = engine.infer_many([{"x": rows()}] * 6)
    next(stream)
    stream.close()
    assert notes.begun == 6
    assert sorted(notes.told) == [
        (1, "result", True),
        *((number, "Cancelled", False) for number in range(2, 7)),
    ]


def test_without_its_observer_an_engine_tells_nobody(observed: tuple[paddleinfer.Engine, Notes]) -> None:
    engine, notes = observed
    engine.observer = None
    for call in CALLS:
        call(engine, rows())
    assert engine.observer is None and notes.begun == 0
