"""How far infer_many looks ahead in its iterable."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engine_helpers import engine_of, gated
from stream_helpers import Pulled, doubled, values

import paddleinfer
from paddleinfer.engine.streams import in_order


@pytest.mark.parametrize("look_ahead", [1, 2, 7])
def test_no_more_items_are_asked_for_than_may_be_under_way(look_ahead: int) -> None:
    with gated() as (engine, gate):
        pulled = Pulled()
        gate.open()
        results = engine.infer_many(pulled, look_ahead=look_ahead)
        assert pulled.count == 0, "nothing is asked for before the first result is"
        for number in range(20):
            assert next(results)["y"][0, 0] == 2 * number
            assert number < pulled.count <= number + look_ahead
        results.close()
        assert pulled.count <= 19 + look_ahead


class Waited:
    """A request that tells when its end is waited for, until it comes."""

    def __init__(self, request: Any, on_wait: Callable[[], None]) -> None:
        self._request = request
        self._on_wait = on_wait

    def wait(self, timeout: float | None) -> Any:
        if timeout is None:
            self._on_wait()
        return self._request.wait(timeout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


@pytest.mark.parametrize(
    ("look_ahead", "chunk_rows", "items"),
    [
        (None, 1, 2 * 4),  # a batch that runs, and one that waits
        (None, 3, 3),
        (None, 8, 2),
        (None, 1000, 2),
        (1, 1000, 1),
        (5, 1, 5),
        (20, 1, 20),
        (5, 4, 2),
        (20, 4, 5),
    ],
)
def test_a_few_batches_of_rows_are_under_way(
    look_ahead: int | None, chunk_rows: int, items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled = Pulled(chunk_rows=chunk_rows)
    under_way: list[int] = []

    def wait() -> None:
        under_way.append(pulled.count)
        gate.open()

    def watched(inputs: Any, start: Any, *limits: Any) -> Any:
        return in_order(inputs, lambda item: Waited(start(item), wait), *limits)

    monkeypatch.setattr("paddleinfer.engine.calls.in_order", watched)
    with gated(max_batch_size=4) as (engine, gate):
        results = engine.infer_many(pulled, look_ahead=look_ahead)
        next(results)
        results.close()
    assert under_way == [items]


class Finished:
    """A request whose result is there at once."""

    rows = 1

    def __init__(self, number: int) -> None:
        self._number = number

    def done(self) -> bool:
        return True

    def wait(self, timeout: float | None) -> bool:
        return True

    def result(self) -> Any:
        return self._number

    def give_up(self) -> None:
        pass


def test_a_finished_result_does_not_wait_for_an_iterable_that_takes_its_time() -> None:
    now = 0.0
    asked: list[int] = []

    def items(gap_s: float) -> Iterator[int]:
        nonlocal now
        for number in range(100):
            now += gap_s
            asked.append(number)
            yield number

    for gap_s, before_the_first, most_ahead in ((1.0, 1, 1), (0.002, 3, 20), (0.0, 20, 20)):
        asked.clear()
        given = in_order(items(gap_s), Finished, 20, 1000, None, lambda: now)
        assert next(given) == 0 and len(asked) == before_the_first
        for number in range(1, 50):
            assert next(given) == number
            assert number < len(asked) <= number + most_ahead


def test_large_chunks_give_their_first_result_long_before_the_last_is_read() -> None:
    pulled = Pulled(40, chunk_rows=256)
    with engine_of(batchable=True) as engine:
        next(engine.infer_many(pulled))
        assert pulled.count <= 2


def test_an_endless_iterable_is_only_taken_from() -> None:
    with engine_of() as engine:
        pulled = Pulled()
        assert values(itertools.islice(engine.infer_many(pulled, look_ahead=5), 30)) == doubled(30)
        assert pulled.count <= 35


@pytest.mark.parametrize("wrong", [0, -1, 1.0, True, "2", float("nan")])
def test_a_look_ahead_that_makes_no_sense_is_refused_at_the_call(wrong: Any) -> None:
    with engine_of() as engine:
        pulled = Pulled()
        with pytest.raises(paddleinfer.ConfigError, match="look_ahead must be a positive integer"):
            engine.infer_many(pulled, look_ahead=wrong)
        with pytest.raises(paddleinfer.InvalidInput, match="timeout must be"):
            engine.infer_many(pulled, timeout=-1)
        with pytest.raises(paddleinfer.ConfigError, match="progress must be a function"):
            engine.infer_many(pulled, progress=5)  # type: ignore[arg-type]
        assert pulled.count == 0


def test_a_result_that_is_about_to_come_does_not_wait_for_a_slow_item() -> None:
    now = 0.0
    waited: list[float | None] = []

    class Soon(Finished):
        over = False

        def done(self) -> bool:
            return self.over

        def wait(self, timeout: float | None) -> bool:
            waited.append(timeout)
            self.over = True
            return True

    def items() -> Iterator[int]:
        nonlocal now
        for number in range(3):
            now += 1.0
            yield number

    given = in_order(items(), Soon, 20, 1000, None, lambda: now)
    assert next(given) == 0 and now == 1.0
    assert waited[0] == pytest.approx(0.05)
