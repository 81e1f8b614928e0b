"""Engine.ainfer with inputs that take long to convert or to pad: the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from engine_helpers import PATIENCE_S, echo_engine, eventually, rows
from loop_helpers import Run, on_both_loops, turn_until

import paddleinfer
from paddleinfer import PadAxis, _ext
from paddleinfer.engine.conversion import Converter

pytestmark = on_both_loops

MANY = (_ext.MANY_NUMBERS // 3 + 1, 3)
THREAD = "paddleinfer-convert"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(THREAD)]


class Held:
    """Conversions that do not begin before they are let go."""

    def __init__(self) -> None:
        self.by: list[int] = []
        """The threads that did them."""
        self.begun = threading.Event()
        self.gone = threading.Event()

    def convert(self, converter: Converter, feeds: object) -> Any:
        self.by.append(threading.get_ident())
        self.begun.set()
        assert self.gone.wait(PATIENCE_S)
        return CONVERT(converter, feeds)


CONVERT = Converter.__call__


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held()

    def convert(converter: Converter, feeds: object) -> Any:
        return held.convert(converter, feeds)

    monkeypatch.setattr(Converter, "__call__", convert)
    yield held
    held.gone.set()


def test_the_loop_goes_on_while_many_numbers_are_converted(run: Run, held: Held) -> None:
    async def main() -> None:
        with echo_engine() as engine:
            slow = asyncio.create_task(engine.ainfer({"x": np.ones(MANY)}))
            await turn_until(held.begun.is_set)
            assert (await engine.ainfer({"x": rows()}))["y"].tolist() == rows().tolist()
            held.gone.set()
            results = await slow
            assert results["y"].dtype == np.float32 and results["y"].shape == MANY
            assert len(set(held.by)) == 1 and threading.get_ident() not in held.by

    run(main())


@pytest.mark.parametrize("dtype", ["float64", "float16", "bool"])
@pytest.mark.parametrize("form", ["dict", "list", "array", "not contiguous"])
def test_many_numbers_give_what_few_give(run: Run, dtype: str, form: str) -> None:
    many = (np.arange(MANY[0] * 3) % 2).reshape(MANY).astype(dtype)
    given: Any = {"dict": {"x": many}, "list": [many], "array": many, "not contiguous": {"x": many[::-1]}}[
        form
    ]

    async def main() -> None:
        with echo_engine() as engine:
            results = await engine.ainfer(given)
            expected = many[::-1] if form == "not contiguous" else many
            np.testing.assert_array_equal(results["y"], expected.astype("float32"))

    run(main())


def test_few_numbers_and_those_that_need_no_conversion_start_no_thread(run: Run) -> None:
    async def main() -> None:
        with echo_engine() as engine:
            await engine.ainfer({"x": rows().astype("float64")})
            await engine.ainfer({"x": np.ones(MANY, "float32")})
            assert threads() == []

    run(main())


def test_what_does_not_fit_is_refused_in_the_same_sentence(run: Run) -> None:
    async def main() -> None:
        with echo_engine() as engine:
            sentences = []
            for count in (1, MANY[0]):
                with pytest.raises(paddleinfer.InvalidInput) as refused:
                    await engine.ainfer({"x": np.ones((count, 3), "complex64")})
                sentences.append(str(refused.value))
            assert sentences[0] == sentences[1]

    run(main())


def test_a_deadline_counts_from_the_call(run: Run, held: Held) -> None:
    async def main() -> None:
        with echo_engine() as engine:
            slow = asyncio.create_task(engine.ainfer({"x": np.ones(MANY)}, timeout=0.01))
            await turn_until(held.begun.is_set)
            await asyncio.sleep(0.02)
            held.gone.set()
            with pytest.raises((paddleinfer.DeadlineExceeded, paddleinfer.QueueFull)):
                await slow
            assert engine.stats()["results"] == 0

    run(main())


def test_a_cancelled_request_is_converted_for_nobody(run: Run, held: Held) -> None:
    async def main() -> None:
        with echo_engine() as engine:
            slow = asyncio.create_task(engine.ainfer({"x": np.ones(MANY)}))
            await turn_until(held.begun.is_set)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            held.gone.set()
            await engine.ainfer({"x": np.ones(MANY)})
            assert engine.stats()["requests"] == 1

    run(main())


def test_a_close_meanwhile_ends_the_request_and_the_thread(run: Run, held: Held) -> None:
    async def main() -> None:
        with echo_engine() as engine:
            slow = asyncio.create_task(engine.ainfer({"x": np.ones(MANY)}))
            await turn_until(held.begun.is_set)
        held.gone.set()
        with pytest.raises(paddleinfer.EngineClosed):
            await slow

    run(main())
    assert eventually(lambda: threads() == [])


def test_a_reload_meanwhile_loses_nothing(run: Run, held: Held) -> None:
    async def main() -> None:
        with echo_engine() as engine:
            slow = asyncio.create_task(engine.ainfer({"x": np.ones(MANY)}))
            await turn_until(held.begun.is_set)
            reloading = asyncio.create_task(asyncio.to_thread(engine.reload))
            held.gone.set()
            await reloading
            assert (await slow)["y"].shape == MANY

    run(main())
    assert eventually(lambda: threads() == [])


def test_a_thread_that_cannot_be_had_is_said_and_tried_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        with echo_engine() as engine:
            with monkeypatch.context() as patched, pytest.raises(paddleinfer.ThreadStartError) as refused:
                patched.setattr(threading.Thread, "start", refuse)
                await engine.ainfer({"x": np.ones(MANY)})
            assert "for the inputs of Engine" in str(refused.value)
            assert (await engine.ainfer({"x": np.ones(MANY)}))["y"].shape == MANY

    run(main())


def test_many_numbers_are_padded_beside_the_loop(run: Run, held: Held) -> None:
    pad = PadAxis(inputs={"x": 1}, outputs={"y": 1}, multiple=4)

    async def main() -> None:
        with echo_engine(shape=(-1, -1), pad=pad, batchable=True) as engine:
            slow = asyncio.create_task(engine.ainfer({"x": np.ones(MANY, "float32")}))
            await turn_until(held.begun.is_set)
            held.gone.set()
            assert (await slow)["y"].shape == MANY
            assert threading.get_ident() not in held.by

    run(main())
