"""Requests whose rows have lengths of their own, split into the batches of those lengths and joined again."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, Arrays

import paddleinfer
from paddleinfer import PadAxis

INPUTS = {"x": ("float32", (-1, -1)), "lengths": ("int64", (-1,))}
PAD = PadAxis(
    inputs={"x": 1},
    lengths="lengths",
    outputs={"pairs": 1},
    per={"pairs": 2},
    output_fill={"pairs": -1},
    multiple=8,
    split_rows=True,
)
LENGTHS = np.array([3, 20, 8, 1, 17, 20], "int64")


class Recogniser:
    """Sums pairs of columns, and all columns of a row's own length; remembers the shapes it saw."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.refused = 0

    def __call__(self, inputs: Arrays) -> Arrays:
        x, lengths = inputs["x"], inputs["lengths"]
        self.shapes.append(x.shape)
        if self.refused in lengths and self.refused:
            raise ValueError("a row of this length is refused")
        known = np.where(np.arange(x.shape[1]) < lengths[:, None], x, 0)
        even = np.pad(known, ((0, 0), (0, known.shape[1] % 2)))
        return {"pairs": even.reshape(len(x), -1, 2).sum(axis=2), "sum": known.sum(axis=1)}


def engine_of(model: Recogniser, pad: PadAxis = PAD, **options: Any) -> paddleinfer.Engine:
    options = {"batchable": True, **options}
    return paddleinfer.Engine.from_callable(model, INPUTS, ["pairs", "sum"], pad=pad, **options)


def feeds() -> dict[str, np.ndarray]:
    x = np.arange(1, 6 * 20 + 1, dtype="float32").reshape(6, 20)
    return {"x": x, "lengths": LENGTHS}


def check(results: Arrays) -> None:
    x = feeds()["x"]
    assert results["pairs"].shape == (6, 10)
    for row, length in enumerate(LENGTHS):
        alone = Recogniser()({"x": x[row : row + 1, :length], "lengths": LENGTHS[row : row + 1]})
        steps = -(-length // 2)
        np.testing.assert_array_equal(results["pairs"][row, :steps], alone["pairs"][0])
        assert (results["pairs"][row, steps:] == -1).all()
        assert results["sum"][row] == alone["sum"][0]


def test_rows_come_back_in_order_with_the_fill_after_their_ends() -> None:
    model = Recogniser()
    with engine_of(model) as engine:
        check(engine.infer(feeds()))
    assert {shape[1] for shape in model.shapes} == {8, 24}
    assert sum(shape[0] for shape in model.shapes) == 6


def test_every_way_of_calling_joins() -> None:
    with engine_of(Recogniser()) as engine:
        results, info = engine.infer(feeds(), return_info=True)
        check(results)
        assert info.rows in (3, 6)
        check(asyncio.run(engine.ainfer(feeds())))
        future = engine.submit(feeds())
        check(future.result(timeout=60))
        assert future.done() and not future.cancelled() and future.info is not None
        for results in engine.infer_many([feeds(), feeds()]):
            check(results)


def test_callbacks_and_waits_see_one_end() -> None:
    ended = threading.Event()
    with engine_of(Recogniser()) as engine:
        future = engine.submit(feeds())
        future.add_done_callback(lambda _: ended.set())
        assert ended.wait(PATIENCE_S)
        check(future.result())


def test_the_first_failure_of_a_part_ends_the_request() -> None:
    model = Recogniser()
    model.refused = 17
    with engine_of(model) as engine:
        with pytest.raises(paddleinfer.ModelError, match="this length is refused"):
            engine.infer(feeds())
        with pytest.raises(paddleinfer.ModelError, match="this length is refused") as caught:
            engine.infer(feeds(), return_info=True)
        assert caught.value.info is not None
        with pytest.raises(paddleinfer.ModelError, match="this length is refused"):
            asyncio.run(engine.ainfer(feeds()))
        model.refused = 0
        check(engine.infer(feeds()))


def test_a_deadline_is_the_whole_requests() -> None:
    with (
        engine_of(Recogniser()) as engine,
        pytest.raises((paddleinfer.DeadlineExceeded, paddleinfer.QueueFull)),
    ):
        engine.infer(feeds(), timeout=0.0)


def test_a_mask_tells_the_lengths_too() -> None:
    def masked(inputs: Arrays) -> Arrays:
        return {"twice": inputs["x"] * 2 + (1 - inputs["mask"])}

    pad = PadAxis(inputs={"x": 1}, mask="mask", outputs={"twice": 1}, multiple=4, split_rows=True)
    inputs = {"x": ("float32", (-1, -1)), "mask": ("float32", (-1, -1))}
    with paddleinfer.Engine.from_callable(masked, inputs, ["twice"], pad=pad, batchable=True) as engine:
        results = engine.infer({"x": np.ones((2, 6)), "mask": [[1, 1, 0, 0, 0, 0], [1, 0, 1, 1, 1, 0]]})
    assert results["twice"].tolist() == [[2, 2, 0, 0, 0, 0], [2, 3, 2, 2, 2, 0]]


def test_rows_as_long_as_the_request_are_one_run() -> None:
    model = Recogniser()
    with engine_of(model) as engine:
        engine.infer({"x": np.ones((3, 20), "float32")})  # the lengths are made
    assert model.shapes == [(3, 24)]


@pytest.mark.parametrize("lengths", [[1, 2, 3], [1, 2, 3, 4, 5, 21], [-1, 2, 3, 4, 5, 6]])
def test_lengths_that_fit_no_row_are_refused_in_a_sentence(lengths: list[int]) -> None:
    with (
        engine_of(Recogniser()) as engine,
        pytest.raises(paddleinfer.InvalidInput, match=r"of the 6 rows|'lengths'"),
    ):
        engine.infer({"x": feeds()["x"], "lengths": np.array(lengths)})


def test_rows_of_no_length_at_all_are_one_run() -> None:
    pad = PadAxis(inputs={"x": 1}, mask="mask", outputs={"twice": 1}, multiple=4, split_rows=True)
    described = {"x": ("float32", (-1, -1)), "mask": ("float32", (-1, -1))}
    outputs = {"twice": ("float32", (-1, -1))}
    with paddleinfer.Engine.from_callable(
        lambda given: given["x"] * 2, described, outputs, pad=pad
    ) as engine:
        empty = np.zeros((3, 0), "float32")
        assert engine.infer({"x": empty, "mask": empty})["twice"].shape == (3, 0)


def test_what_cannot_be_split_is_refused_in_a_sentence() -> None:
    with pytest.raises(paddleinfer.ConfigError, match="only one PadAxis of pad"):
        engine_of(Recogniser(), (PAD, PAD))


def test_a_split_request_of_more_rows_than_may_wait_runs_where_nothing_else_waits() -> None:
    with engine_of(Recogniser(), max_queue_rows=2) as engine:
        for _ in range(5):
            check(engine.infer(feeds()))
        check(engine.submit(feeds()).result())
        for results in engine.infer_many([feeds()] * 5):  # items of a stream wait for room
            check(results)
        assert engine.stats()["refused"] == 0


class Held(Recogniser):
    """Its runs wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.began = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, inputs: Arrays) -> Arrays:
        self.began.set()
        assert self.go_on.wait(PATIENCE_S)
        return super().__call__(inputs)


def test_a_split_request_is_refused_as_a_whole_where_others_wait() -> None:
    model = Held()
    with engine_of(model, max_queue_rows=8) as engine:
        running = engine.submit({"x": np.ones((1, 8), "float32"), "lengths": np.array([8])})
        assert model.began.wait(PATIENCE_S)
        waiting = engine.submit(feeds())
        with pytest.raises(paddleinfer.QueueFull, match=r"has 6 rows and [0-9]+ bytes waiting"):
            engine.submit(feeds())
        assert engine.stats()["queued_rows"] == 6
        model.go_on.set()
        check(waiting.result())
        assert running.result()


def test_a_split_request_that_waits_for_room_does_not_stop_the_loop() -> None:
    async def main(engine: paddleinfer.Engine, model: Held) -> None:
        first = asyncio.create_task(engine.ainfer(feeds()))
        while not model.began.is_set():
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(engine.ainfer(feeds())) for _ in range(5)]
        while engine.stats()["requests_waiting_for_room"] == 0:
            await asyncio.sleep(0.001)
        model.go_on.set()  # reached only while the loop goes on
        for results in await asyncio.gather(first, *others):
            check(results)

    model = Held()
    with engine_of(model, max_queue_rows=8, on_full="wait") as engine:
        asyncio.run(main(engine, model))
